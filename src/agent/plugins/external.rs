//! Executables in the plugin folder, `NAME@VERSION` or `NAME`: given the action as their first argument and the args as JSON on stdin.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use arcgate_api::agent::v1::{PluginInfo, StepRun};
use sha2::{Digest, Sha256};

use super::{BUILT_IN, Work};
use crate::agent::Input;
use crate::agent::step::Ending;
use crate::agent::stop::Stop;

/// Read at once.
const READ_BYTES: usize = 64 << 10;

/// A plugin that is no part of this program.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::agent) struct External {
    path: PathBuf,
}

impl External {
    /// Finds and checks the plugin that a step uses.
    pub(super) fn find(step: &StepRun, folder: Option<&Path>) -> Result<Self, String> {
        let uses = &step.uses;
        let (name, version) = uses.split_once('@').unwrap_or((uses, ""));
        let fits = |info: &&PluginInfo| info.name == name && (version.is_empty() || info.version == version);
        let info = step.plugins.iter().find(fits);
        let version = info.map_or(version, |info| &info.version);
        let word = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "_.+-".contains(c)) && !text.starts_with('.');
        if name.is_empty() || !word(name) || !word(version) {
            return Err(format!("plugin {uses:?} is no name; write a name as shell, or name@1.2.3"));
        }
        let file = if version.is_empty() { name.to_owned() } else { format!("{name}@{version}") };
        let unknown = |why: &str| format!("plugin {uses} is not known to this agent: it is none of {BUILT_IN}, and {why}");
        let Some(folder) = folder else {
            return Err(unknown("the agent was started without --plugins"));
        };
        let path = folder.join(&file);
        if !path.is_file() {
            return Err(unknown(&format!("there is no {file} in its plugin folder")));
        }
        if let Some(expected) = info.map(|info| info.checksum.trim()).filter(|checksum| !checksum.is_empty()) {
            let found = checksum(&path).map_err(|error| format!("plugin {uses} cannot be read: {error}"))?;
            if !found.eq_ignore_ascii_case(expected.strip_prefix("sha256:").unwrap_or(expected)) {
                return Err(format!(
                    "plugin {uses} is not the one that is expected: its file has the checksum sha256:{found}, not {expected}; \
                     put the right one into the plugin folder"
                ));
            }
        }
        Ok(Self { path })
    }

    pub(super) async fn run(&self, work: &Work<'_>, stop: &mut Stop) -> Ending {
        let args = serde_json::Value::Object(work.args.clone()).to_string();
        let input = match Input::write(&work.shared.folder.inputs(), args.as_bytes()) {
            Ok(input) => input,
            Err(error) => return Ending::failed(format!("this agent cannot write the plugin's input: {error}")),
        };
        let path = self.path.display().to_string();
        work.program(&[&path, &work.step.action], Some(input.0.clone()), Vec::new(), stop).await
    }
}

fn checksum(path: &Path) -> io::Result<String> {
    let (mut file, mut hash, mut buffer) = (File::open(path)?, Sha256::new(), vec![0; READ_BYTES]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            count => hash.update(&buffer[..count]),
        }
    }
}
