//! The stories, in one binary.

mod file_source;
mod source_contract;
