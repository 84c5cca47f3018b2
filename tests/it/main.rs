//! The stories, in one binary.

mod chunk;
mod crash;
mod daemon;
mod daemon_start;
mod examples;
mod file_house;
mod file_rotation;
mod file_source;
mod folder;
mod formats;
mod fuzz_corpus;
mod model;
mod parquet;
mod parquet_choices;
mod receive;
mod redact;
mod s3;
mod schema;
mod sim;
mod source_contract;
mod spool;
mod support;
mod tidy;
mod transform_cli;
mod wasm_modules;
mod wrong_config;
