//! An S3 server in this process, over real HTTP on 127.0.0.1, with its buckets as folders.
//!
//! It is `s3s` with `s3s-fs`: it checks signatures and checksums, and honours `If-None-Match: *` on PutObject (it looks
//! and then writes, so two creates at the very same time may both succeed; no story relies on that). Multipart uploads
//! are as S3's. A bucket that is not there it makes, where S3 answers 404.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use hydrant::sink::{Options, Text};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

pub const ACCESS_KEY: &str = "AKIDHYDRANT";
pub const SECRET_KEY: &str = "hush";

/// A server; gone when dropped, with all connections. Its folder stays as long as the `Buckets`.
pub struct S3Server {
    pub address: SocketAddr,
    _serving: JoinSet<()>,
}

/// The folder with the buckets.
pub struct Buckets(TempDir);

impl Buckets {
    pub fn new() -> Buckets {
        Buckets(tempfile::tempdir().unwrap())
    }

    /// Makes a bucket.
    pub fn create(&self, bucket: &str) -> PathBuf {
        let path = self.0.path().join(bucket);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

/// An address on which nobody listens now.
pub async fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

impl S3Server {
    /// Serves the buckets at a port of the system's choice.
    pub async fn start(buckets: &Buckets) -> S3Server {
        S3Server::start_at("127.0.0.1:0".parse().unwrap(), buckets).await
    }

    /// Serves the buckets at `address`; listens when this returns.
    pub async fn start_at(address: SocketAddr, buckets: &Buckets) -> S3Server {
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(buckets.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = builder.build();
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let Ok((socket, _)) = listener.accept().await else { continue };
                let service = service.clone();
                connections.spawn(async move {
                    let http = Builder::new(TokioExecutor::new());
                    // A client that hangs up is not this server's trouble.
                    let _ = http.serve_connection(TokioIo::new(socket), service).await;
                });
                while connections.try_join_next().is_some() {}
            }
        });
        S3Server { address, _serving: serving }
    }

    /// A sink's options for a bucket of this server.
    pub fn options(&self, bucket_and_path: &str) -> Options {
        options_at(self.address, bucket_and_path)
    }
}

/// A sink's options for a bucket of the server at `address`.
pub fn options_at(address: SocketAddr, bucket_and_path: &str) -> Options {
    let endpoint = format!("http://{address}");
    let options = [
        ("endpoint", endpoint.as_str()),
        ("allow_http", "true"),
        ("region", "us-east-1"),
        ("access_key_id", ACCESS_KEY),
        ("secret_access_key", SECRET_KEY),
    ];
    let options = options.map(|(name, value)| (name.to_string(), Text(value.to_string()))).into_iter().collect();
    Options { options, ..Options::at(format!("s3://{bucket_and_path}")) }
}
