//! A client in Go, made with `buf generate` from the protos alone.

use std::process::Command;
use std::time::Duration;

use crate::harness::{Outcome, Rig, folder, oracle, output, run, text};

#[test]
fn a_go_program_of_a_few_lines_pushes_an_event() -> Outcome<()> {
    run(300, async {
        let (mut rig, folder) = (Rig::start().await?, folder()?);
        let program = folder.path().join("push-event");
        let mut build = Command::new("scripts/buf.sh");
        build.current_dir(env!("CARGO_MANIFEST_DIR")).arg("--example").arg(&program);
        text(&output(build, Duration::from_secs(240)).await?, 0)?;
        for agent in ["gopher", "another"] {
            let mut push = Command::new(&program);
            push.args([&rig.gateway.addresses.grpc, agent]);
            assert_eq!(text(&output(push, Duration::from_secs(20)).await?, 0)?, "STATUS_ACCEPTED 1\n");
        }
        rig.gateway.stop().await?;
        assert_eq!(oracle::events(rig.gateway.launch()).await?.len(), 2);
        Ok(())
    })
}
