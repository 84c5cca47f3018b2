//! What systemd is told, where it listens: ready, reloading, stopping, and that we live.

use sd_notify::NotifyState;

/// Pipelines run and doors are open.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// No more is taken in; what is under way is brought to an end.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd cannot be told");
    }
}
