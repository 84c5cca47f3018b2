//! The stories, in one binary.

mod parquet;
