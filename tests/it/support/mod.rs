//! What stories share.

pub mod s3;
