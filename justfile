# Everyday commands; `just` lists them.

_default:
    @"{{just_executable()}}" --list --unsorted

# Run pipelines: the quickstart, unless others are named
run *PATHS="pipelines/quickstart.yaml":
    cargo run --release -- run {{PATHS}}

# Run all tests that need only Rust and a C compiler, or those whose name contains NAME
test NAME="":
    cargo test {{NAME}}

# Format, and lint as strictly as CI
lint:
    cargo fmt
    cargo clippy --all-targets -- -D warnings

# Kill the release binary N times while real clients write
kill N="30":
    cargo test --release --test kill -- --kills {{N}}

# Run the stories with real clients, a real S3 server and real readers
services *NAMES:
    tests/services/run {{NAMES}}

# Measure all ways beside their peers (`just bench --help`), or whether a ratio got much worse: `just bench --quick`
bench *ARGS:
    benches/run {{ARGS}}

# Check licences, bans and sources of all dependencies (needs cargo-deny)
deny:
    cargo deny check bans licenses sources

# Do what CI does
ci:
    .ci/run
