//! The stories, in one binary.

mod crash;
mod file_source;
mod folder;
mod model;
mod receive;
mod s3;
mod sim;
mod source_contract;
mod support;
mod tidy;
