//! Files for other programs: metrics for a collector, the summary for Kubernetes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// No write takes this long: an older temporary file was left by a killed pass.
const LEFT_BEHIND: Duration = Duration::from_secs(60);

/// Replaces a file atomically: a reader sees the old text or the new one. Links stay links; what is not a regular file, such
/// as `/dev/null` or a pipe, is written in place.
///
/// # Errors
/// As [`replaceable`], and when the file cannot be written.
pub fn replace(path: &Path, text: &str) -> io::Result<()> {
    let target = replaceable(path)?;
    let name = target.file_name().ok_or_else(|| io::Error::other("it names no file"))?;
    let stem = format!(".{}.", name.to_string_lossy());
    // In the same directory, because a rename does not cross file systems. Collectors skip names with another suffix.
    let beside = target.with_file_name(format!("{stem}{}", std::process::id()));
    let written = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&beside)?;
        // Readable to the collector, which runs as another user, whatever the umask.
        file.set_permissions(fs::Permissions::from_mode(0o644))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        clear(&beside, &stem, &file);
        fs::rename(&beside, &target)
    };
    written().inspect_err(|_| drop(fs::remove_file(&beside)))
}

/// The file that a path leads to, if it can be replaced as far as its kind goes.
///
/// # Errors
/// When it is something else than a file, or a link to nothing.
pub fn replaceable(path: &Path) -> io::Result<PathBuf> {
    let target = match fs::canonicalize(path) {
        Ok(target) => target,
        Err(_) if path.is_symlink() => return Err(io::Error::other("it is a link to nothing")),
        Err(_) => path.to_owned(),
    };
    if fs::metadata(&target).is_ok_and(|found| !found.is_file()) {
        return Err(io::Error::other("it is no plain file, and only a plain file can be replaced"));
    }
    Ok(target)
}

/// Removes temporary files of passes that were killed while writing. Failures are ignored: they do not prevent writing.
fn clear(beside: &Path, stem: &str, written: &File) {
    let modified = |found: io::Result<fs::Metadata>| found.and_then(|found| found.modified()).ok();
    let (Some(folder), Some(now)) = (beside.parent(), modified(written.metadata())) else { return };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_ours =
            name.to_str().and_then(|name| name.strip_prefix(stem)).is_some_and(|id| id.parse::<u32>().is_ok());
        let age = modified(entry.metadata()).and_then(|then| now.duration_since(then).ok());
        if is_ours && age.is_some_and(|age| age > LEFT_BEHIND) {
            drop(fs::remove_file(entry.path()));
        }
    }
}

/// Writes `text` into the existing file: Kubernetes mounts the file that it reads, and a mount cannot be replaced.
pub(super) fn overwrite(path: &Path, text: &str) -> io::Result<()> {
    // A pipe without a reader is an error; the pass does not wait for one.
    let at_once = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).custom_flags(at_once).open(path)?;
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::fs::FileTimes;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn what_is_no_plain_file_stays_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("plain"), "old").unwrap();
        fs::create_dir(at("folder")).unwrap();
        mknodat(CWD, at("pipe"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        std::os::unix::fs::symlink("plain", at("link")).unwrap();
        std::os::unix::fs::symlink("pipe", at("link-to-pipe")).unwrap();
        let kind = |name: &str| fs::symlink_metadata(at(name)).unwrap().file_type();
        type Writer = fn(&Path, &str) -> io::Result<()>;
        let rows = [
            ("plain", true),
            ("new", true),
            ("link", true),
            ("folder", false),
            ("pipe", false),
            ("link-to-pipe", false),
        ];
        for write in [replace as Writer, overwrite] {
            for (name, is_written) in rows {
                let before = fs::symlink_metadata(at(name)).map(|found| found.file_type()).ok();
                assert_eq!(write(&at(name), name).is_ok(), is_written, "{name}");
                assert!(before.is_none_or(|before| before == kind(name)), "{name}");
                if is_written {
                    assert_eq!(fs::read_to_string(at(name)).unwrap(), name);
                }
            }
        }
        assert_eq!(fs::read_to_string(at("plain")).unwrap(), "link");
    }

    #[test]
    fn what_killed_passes_left_is_cleared() {
        let folder = tempfile::tempdir().unwrap();
        let rows = [
            (".m.prom.1", 120, false),
            (".m.prom.2", 5, true),
            (".m.prom.swp", 120, true),
            (".other.prom.1", 120, true),
            ("m.prom.1", 120, true),
        ];
        for (name, age, _) in rows {
            let file = File::create(folder.path().join(name)).unwrap();
            let then = file.metadata().unwrap().modified().unwrap() - Duration::from_secs(age);
            file.set_times(FileTimes::new().set_modified(then)).unwrap();
        }
        replace(&folder.path().join("m.prom"), "text").unwrap();
        for (name, _, stays) in rows {
            assert_eq!(folder.path().join(name).metadata().is_ok(), stays, "{name}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 5);
    }
}
