use std::time::{Duration, Instant};

/// How long a test waits for what takes milliseconds on an idle machine: so long that it never ends on one that is busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Looks every ten milliseconds until `look` finds something; `None` when that takes longer than `patience`.
pub async fn until<T>(patience: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() > deadline {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
