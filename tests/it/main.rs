//! The stories, in one binary.

mod spool;
