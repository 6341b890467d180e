//! A token bucket: politeness towards an API server, whatever is to be written.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Lets a burst through at once, and then one call each interval.
#[derive(Debug)]
pub(crate) struct Bucket {
    burst: u32,
    interval: Duration,
    /// When the bucket is full again, if nothing more is taken.
    full_at: Instant,
}

impl Bucket {
    /// A full bucket.
    pub(crate) fn new(burst: u32, interval: Duration) -> Self {
        Self { burst, interval, full_at: Instant::now() }
    }

    /// Waits until a call may be made.
    pub(crate) async fn take(&mut self) {
        let full_at = self.full_at.max(Instant::now()) + self.interval;
        // An empty bucket is full after `burst` intervals; what is beyond has to be waited for.
        if let Some(earliest) = full_at.checked_sub(self.interval * self.burst) {
            sleep_until(earliest).await;
        }
        self.full_at = full_at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_then_one_each_interval() {
        let mut bucket = Bucket::new(3, Duration::from_secs(1));
        let start = Instant::now();
        let mut passed = Vec::new();
        for _ in 0..6 {
            bucket.take().await;
            passed.push(start.elapsed().as_secs());
        }
        assert_eq!(passed, [0, 0, 0, 1, 2, 3]);
        tokio::time::sleep(Duration::from_secs(60)).await;
        let start = Instant::now();
        for _ in 0..3 {
            bucket.take().await;
        }
        assert_eq!(start.elapsed().as_secs(), 0, "it has filled up again");
    }
}
