//! hydrant, the self-hosted Amazon Data Firehose: the modules in the order in which a record meets them.
//!
//! Start with [`pipeline`]: it is a record's whole way, on one page. Imports go down only: a module may use
//! those above it in this list, never those below (`tests/it/tidy.rs` holds us to it).

// floor 0: words
pub mod budget;
pub mod cpu;
pub mod disk;
pub mod error;
pub mod inputs;
pub mod nearest;
pub mod position;
pub mod record;
pub mod secret;
pub mod units;

// and ground
pub mod ground;
pub mod live;
pub mod metrics;

// and names
pub mod naming;

// floor 1: stations that know only words
pub mod checkpoint;
pub mod encode;
pub mod outbox;
pub mod sink;
pub mod source;
pub mod transform;

// and what they set aside
pub mod rejected;

// floor 2: logs and cuts
pub mod chunk;
pub mod spool;

// floor 3: doors and the page
pub mod pipeline;
pub mod receive;

// floor 4: the house
pub mod config;
pub mod status;

// and its running
pub mod daemon;

// floor 5: the commands
pub mod cli;
