//! The stories, in one binary.

mod folder;
mod s3;
mod support;
