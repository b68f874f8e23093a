//! Lines as builds write them: the same from the same seed, on average [`LINE_BYTES`] long with their newline, and as
//! repetitive as real ones, so that compression is worth what it is worth in practice.

use std::fmt::Write;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// The length of a line of a real build (`cargo build --verbose`, `mvn`, `npm` and `make` together), on average.
pub const LINE_BYTES: usize = 121;

const CRATES: [&str; 12] = [
    "serde_derive",
    "tokio-util",
    "hyper",
    "regex-automata",
    "syn",
    "proc-macro2",
    "tracing-core",
    "rustls",
    "h2",
    "indexmap",
    "http-body",
    "futures-channel",
];
const CLASSES: [&str; 8] = ["Resolver", "TaskQueue", "HttpClient", "ArtifactStore", "Scheduler", "Session", "Parser", "Cache"];
const VERBS: [&str; 8] = ["compiled", "resolved", "downloaded", "linked", "checked", "verified", "packaged", "uploaded"];

/// Writes lines, one after the other.
#[derive(Debug)]
pub struct BuildLog {
    random: StdRng,
    second: u32,
}

impl BuildLog {
    /// The build log of that seed.
    pub fn new(seed: u64) -> Self {
        Self { random: StdRng::seed_from_u64(seed), second: 0 }
    }

    /// Appends one line with its newline.
    pub fn line(&mut self, out: &mut String) {
        let random = &mut self.random;
        let start = out.len();
        self.second += u32::from(random.random_ratio(1, 40));
        let (hour, minute, second) = (self.second / 3600 % 24, self.second / 60 % 60, self.second % 60);
        let milli: u32 = random.random_range(0..1000);
        let krate = CRATES[random.random_range(0..CRATES.len())];
        let class = CLASSES[random.random_range(0..CLASSES.len())];
        let verb = VERBS[random.random_range(0..VERBS.len())];
        // Writing into a String cannot fail.
        let _ = match random.random_range(0..10) {
            0..5 => {
                let hash: u64 = random.random();
                let n: u32 = random.random_range(0..400);
                write!(
                    out,
                    "[{hour:02}:{minute:02}:{second:02}.{milli:03}] rustc --crate-name {krate} --edition=2021 -C metadata={hash:016x} --out-dir target/debug/deps ({n} ms)"
                )
            }
            5..8 => write!(
                out,
                "2026-03-04T{hour:02}:{minute:02}:{second:02}.{milli:03}Z INFO  [worker-{}] org.example.build.{class} - {verb} {krate} in {} ms",
                random.random_range(0..16),
                random.random_range(1..90_000)
            ),
            8 => write!(out, "test {krate}::{class}::tests::{verb}_when_case_{} ... ok", random.random_range(0..5000)),
            _ => write!(
                out,
                "   \u{2714} {verb} {class} ({krate}@1.{}.{})",
                random.random_range(0..90),
                random.random_range(0..30)
            ),
        };
        // Short lines are followed by what makes the mean come out right: paths, as builds print them.
        while out.len() - start + 1 < LINE_BYTES - 12 {
            let _ = write!(out, " src/{}/{}.rs", class.to_lowercase(), krate);
        }
        out.push('\n');
    }

    /// `count` lines.
    pub fn lines(&mut self, count: usize) -> String {
        let mut out = String::with_capacity(count * (LINE_BYTES + 8));
        for _ in 0..count {
            self.line(&mut out);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_as_long_as_real_ones_and_repeat_with_the_seed() {
        let text = BuildLog::new(7).lines(10_000);
        assert_eq!(text.lines().count(), 10_000);
        let mean = text.len() / 10_000;
        assert!((LINE_BYTES - 4..=LINE_BYTES + 4).contains(&mean), "{mean} bytes a line");
        assert_eq!(text, BuildLog::new(7).lines(10_000));
        assert_ne!(text, BuildLog::new(8).lines(10_000));
    }
}
