//! What stories share.

pub mod daemon;
pub mod s3;
pub mod sink;
