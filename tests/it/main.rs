//! The stories, in one binary.

mod receive;
