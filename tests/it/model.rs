//! An exhaustive model of the outbox protocol.
