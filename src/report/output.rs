//! stdout and stderr, written until everything is out: what got lost is not a success.

use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// Whether something that was written to stderr got lost, other than because its reader went away.
static LOG_IS_LOST: AtomicBool = AtomicBool::new(false);

/// An output of the process, unbuffered.
#[derive(Debug)]
pub struct RawStream(BorrowedFd<'static>);

impl RawStream {
    #[must_use]
    pub fn stdout() -> Self {
        Self(rustix::stdio::stdout())
    }

    #[must_use]
    pub fn stderr() -> Self {
        Self(rustix::stdio::stderr())
    }
}

impl Write for RawStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match rustix::io::write(self.0, bytes) {
                Err(Errno::INTR) => {}
                // The other end of the pipe may have made it non-blocking, and reads slowly.
                Err(Errno::AGAIN) => drop(poll(&mut [PollFd::new(&self.0, PollFlags::OUT)], None)),
                written => return Ok(written?),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes a message to stderr. That it got lost is seen at the end: there is no other place to say so.
pub fn log(message: &[u8]) {
    let written = unless_closed(RawStream::stderr().write_all(message));
    LOG_IS_LOST.fetch_or(written.is_err(), Ordering::Relaxed);
}

/// Whether a message for stderr got lost.
#[must_use]
pub fn log_is_lost() -> bool {
    LOG_IS_LOST.load(Ordering::Relaxed)
}

/// A reader that went away (`respot history | head`) is no error.
///
/// # Errors
/// Any other error.
pub fn unless_closed(written: io::Result<()>) -> io::Result<()> {
    written.or_else(|error| if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })
}
