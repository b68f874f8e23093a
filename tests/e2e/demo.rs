//! The README's first command: it ends by itself, with 0 if every line came out as it went in, and with 1 if one is missing,
//! doubled or swapped.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::harness::{Outcome, binary, folder, output, run, text};

/// The demo against the binary under test, on fewer lines than a build has, so that only the comparison is tried here.
async fn demo(plant: &str) -> Outcome<std::process::Output> {
    let folder = folder()?;
    let mut command = Command::new("scripts/demo.sh");
    command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("TMPDIR", folder.path())
        .env("ARCGATE_BIN", binary())
        .env(
            "ARCGATE_DEMO_COMMAND",
            "for i in $(seq 1 1500); do echo \"line $i\"; [ $((i % 7)) = 0 ] && echo \"   note $i\" >&2; done; true",
        )
        .env("ARCGATE_DEMO_PLANT", plant)
        .stdin(Stdio::null());
    output(command, Duration::from_secs(120)).await
}

#[test]
fn the_demo_succeeds() -> Outcome<()> {
    run(150, async {
        let words = text(&demo("").await?, 0)?;
        assert!(words.contains("1714 lines"), "{words}");
        Ok(())
    })
}

#[test]
fn the_demo_fails_when_a_line_is_missing_doubled_or_swapped() -> Outcome<()> {
    run(400, async {
        for plant in ["missing", "doubled", "swapped"] {
            let failed = demo(plant).await?;
            let words = text(&failed, 1).map_err(|error| format!("{plant}: {error}"))?;
            assert!(words.contains("differs"), "{plant}: {words}");
        }
        Ok(())
    })
}
