//! The stories, in one binary.

mod folder;
mod model;
mod s3;
mod sim;
mod support;
