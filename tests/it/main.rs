//! The stories, in one binary.

mod file_house;
mod file_rotation;
mod file_source;
mod source_contract;
