//! What can be known of a path.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

/// Whether something has this name, be it a link that leads nowhere.
///
/// # Errors
/// When that cannot be known: a directory on the way may not be searched, or is a link that leads nowhere, perhaps to where
/// something is to be mounted. "May not look" is not "is not there": what follows from an absence must not follow from that.
pub(crate) fn is_there(path: &Path) -> io::Result<bool> {
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match dangling(path) {
            Some(link) => Err(io::Error::other(format!("{} is a link to nothing", link.display()))),
            None => Ok(false),
        },
        Err(error) => Err(error),
    }
}

/// The directory that a file is or would be in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The most that a configuration file or a secret may have, in bytes.
const LONGEST_TEXT: u64 = 1 << 20;

/// How long a pipe may be silent.
const PATIENCE: Duration = Duration::from_secs(5);

/// The text of a configuration file or a secret, which may come from a pipe.
///
/// # Errors
/// When it cannot be read, is longer than any such file, when nothing comes from a pipe for five seconds, or when it ends
/// without a word: a file can be empty, a pipe that is has lost its writer.
pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    // A pipe without a writer would be waited for.
    let at_once = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(at_once).open(path)?;
    let is_pipe = file.metadata()?.file_type().is_fifo();
    if is_pipe {
        // Before its first writer it looks as after its last one.
        Patient(&file).wait()?;
    }
    let mut bounded = Patient(&file).take(LONGEST_TEXT + 1);
    let mut text = String::new();
    bounded.read_to_string(&mut text)?;
    if is_pipe && text.is_empty() {
        return Err(silence());
    }
    if bounded.limit() == 0 {
        return Err(io::Error::other(format!("it is longer than {LONGEST_TEXT} bytes")));
    }
    Ok(text)
}

/// Reads what does not block, and waits for more for a limited time.
struct Patient<'a>(&'a File);

fn silence() -> io::Error {
    io::Error::other("it is a pipe, and nothing comes from it")
}

impl Patient<'_> {
    /// Waits until there is something to read, or the writer is gone.
    fn wait(&self) -> io::Result<()> {
        let mut waits = [PollFd::new(self.0, PollFlags::IN)];
        let limit = PATIENCE.try_into().map_err(io::Error::other)?;
        if poll(&mut waits, Some(&limit))? == 0 { Err(silence()) } else { Ok(()) }
    }
}

impl Read for Patient<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait()?,
                read => return read,
            }
        }
    }
}

/// The directory on the way that is a link to nothing, if one is.
fn dangling(path: &Path) -> Option<&Path> {
    let above = path.ancestors().skip(1).find(|it| it.symlink_metadata().is_ok())?;
    above.metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound).then_some(above)
}
