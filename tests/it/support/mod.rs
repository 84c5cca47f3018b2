//! What stories share.

pub mod daemon;
pub mod kafka;
pub mod kept;
pub mod lambda;
pub mod s3;
pub mod sink;
pub mod transform;
