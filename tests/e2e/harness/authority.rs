//! A certificate authority of a test's own. Its files go with it.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::{Outcome, folder};

/// Nothing of the machine's own settings of OpenSSL is part of a test.
const SETTINGS: &str = "[req]\ndistinguished_name = name\n[name]\n";

/// See the module.
#[derive(Debug)]
pub(crate) struct Authority(TempDir);

impl Authority {
    /// A new one, that nobody else trusts.
    pub(crate) fn new() -> Outcome<Self> {
        let own = Self(folder()?);
        std::fs::write(own.file("settings"), SETTINGS)?;
        own.openssl("authority", &["-addext", "basicConstraints=critical,CA:TRUE"])?;
        Ok(own)
    }

    /// The file (PEM) by which others know it.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.file("authority.crt")
    }

    /// A file (PEM) with a new key and its certificate, for both ends of connections to 127.0.0.1.
    pub(crate) fn sign(&self, name: &str) -> Outcome<PathBuf> {
        let (certificate, key) = (self.certificate(), self.file("authority.key"));
        let [certificate, key] = [&certificate, &key].map(|path| path.to_string_lossy());
        self.openssl(name, &["-CA", &certificate, "-CAkey", &key, "-addext", "subjectAltName=IP:127.0.0.1"])?;
        let both = [format!("{name}.key"), format!("{name}.crt")].map(|file| std::fs::read(self.file(&file)));
        let [key, certificate] = both;
        let path = self.file(&format!("{name}.pem"));
        std::fs::write(&path, [key?, certificate?].concat())?;
        Ok(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Makes a key and a certificate for `name`.
    fn openssl(&self, name: &str, more: &[&str]) -> Outcome<()> {
        let settings = self.file("settings");
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
            .args(["-subj", &format!("/CN={name}"), "-keyout", &format!("{name}.key"), "-out", &format!("{name}.crt")])
            .args([Path::new("-config"), &settings])
            .args(more)
            .current_dir(self.0.path())
            .output()?;
        if made.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&made.stderr).into()) }
    }
}
