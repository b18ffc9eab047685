//! Byte buffers for panels: 64-byte aligned, and on huge pages when they are large.
//!
//! Huge pages spare the address translation of a sequential sweep; where the system hands them out on request only
//! (`transparent_hugepage` in `madvise` mode), a buffer has to ask, and before its first page is touched.
#![allow(
    unsafe_code,
    reason = "asking the system for huge pages is a call through the C interface; pages are touched by who fills them"
)]

use crate::base::disjoint::Claims;
use crate::base::error::{Error, Result};
use aligned_vec::{AVec, RuntimeAlign};
use alloc::format;
use alloc::vec::Vec;
use core::fmt;
use core::mem::MaybeUninit;
use core::ops::{Deref, DerefMut};
use core::slice;
use core::sync::atomic::{AtomicUsize, Ordering};

/// One cache line, and the widest vector.
const LINE: usize = 64;

/// One huge page.
const HUGE_PAGE: usize = 2 << 20;

/// Buffers from here on ask for huge pages.
const LARGE: usize = 4 << 20;

/// A buffer of bytes whose first byte is 64-byte aligned; from 4 MiB on it lies on huge pages where the system has
/// them. Its length is fixed at birth.
///
/// ```
/// use mixgemm::base::buffer::AlignedBuf;
/// let mut b = AlignedBuf::zeroed(100)?;
/// b[99] = 7;
/// assert_eq!((b.len(), b[0], b.clone()[99]), (100, 0, 7));
/// assert_eq!(b.as_ptr().addr() % 64, 0);
/// # Ok::<(), mixgemm::Error>(())
/// ```
pub struct AlignedBuf {
    bytes: AVec<u8, RuntimeAlign>,
}

impl AlignedBuf {
    /// A buffer of `len` zeros.
    ///
    /// # Errors
    /// [`Error::Memory`] when the allocator has no such buffer.
    pub fn zeroed(len: usize) -> Result<Self> {
        let mut bytes = reserve(len)?;
        while bytes.len() < len {
            let step = (len - bytes.len()).min(ZEROS.len());
            bytes.extend_from_slice(&ZEROS[..step]);
        }
        Ok(Self { bytes })
    }

    /// A buffer of `(parts, bytes each)`, zero at first: `fill` gets the number and the bytes of every part once, unless they
    /// have none: there may be any number of such parts. `run` calls its task on as many threads as shall share the work;
    /// it is given the number of parts with bytes. The thread that fills a part is the first to touch it.
    ///
    /// ```
    /// use mixgemm::base::buffer::AlignedBuf;
    /// let b = AlignedBuf::in_parts((3, 2), &|_, task| task(0), &|i, part| part[0] = i as u8)?;
    /// assert_eq!(b[..], [0, 0, 1, 0, 2, 0]);
    /// # Ok::<(), mixgemm::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Memory`] when the allocator has no such buffer.
    ///
    /// # Panics
    /// When `fill` panicked on another thread and `run` did not pass it on.
    pub fn in_parts(
        (parts, bytes_each): (usize, usize),
        run: &dyn Fn(usize, &Task<'_>),
        fill: &(dyn Fn(usize, &mut [u8]) + Sync),
    ) -> Result<Self> {
        let len = parts.saturating_mul(bytes_each);
        let parts = if bytes_each == 0 { 0 } else { parts };
        let mut bytes = reserve(len)?;
        // SAFETY: the slice must be allocated, and of elements that need not be initialised. `reserve` has made room for
        // `len` bytes, and `MaybeUninit` needs none. Under the address sanitiser the fuzz target `pack_roundtrip` would
        // notice a longer one.
        let room = unsafe { slice::from_raw_parts_mut(bytes.as_mut_ptr().cast::<MaybeUninit<u8>>(), len) };
        let mut unfilled: Vec<_> = room.chunks_exact_mut(bytes_each.max(1)).collect();
        let (claims, filled) = (Claims::new(&mut unfilled), AtomicUsize::new(0));
        let work = |_| {
            while let Some((i, part)) = claims.next() {
                part.fill(MaybeUninit::new(0));
                // SAFETY: the elements must be initialised, and nobody else may reach them. They have just been set to
                // zero, and the part was claimed by this thread and is borrowed from there.
                // `parts_are_zeroed_and_filled_once` would notice bytes that were left out.
                fill(i, unsafe {
                    slice::from_raw_parts_mut(part.as_mut_ptr().cast(), part.len())
                });
                filled.fetch_add(1, Ordering::Relaxed);
            }
        };
        run(parts, &work);
        work(0); // Whatever was left undone.
        assert!(filled.into_inner() == parts, "a part was not filled");
        // SAFETY: `len` elements must fit and be initialised. `reserve` has made room for them, and all parts, which are
        // all of them, were counted after they had been set. `parts_are_zeroed_and_filled_once` would notice others.
        unsafe { bytes.set_len(len) };
        Ok(Self { bytes })
    }

    /// Number of bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// What every thread does: it claims parts of the work until none is left.
pub type Task<'a> = dyn Fn(usize) + Sync + 'a;

static ZEROS: [u8; 4096] = [0; 4096];

/// An empty vector that holds `len` bytes without growing, its pages still untouched.
fn reserve(len: usize) -> Result<AVec<u8, RuntimeAlign>> {
    let refused = || {
        Error::memory(
            "buffer",
            format!("{len} bytes of memory"),
            "an allocator that refuses them",
        )
    };
    let align = if len >= LARGE { HUGE_PAGE } else { LINE };
    let capacity = len
        .checked_next_multiple_of(align)
        .filter(|&c| isize::try_from(c).is_ok_and(|c| c <= isize::MAX - align as isize))
        .ok_or_else(refused)?;
    let mut bytes = AVec::<u8, RuntimeAlign>::new(align);
    bytes.try_reserve_exact(capacity).map_err(|_| refused())?;
    if len >= LARGE {
        ask_for_huge_pages(&mut bytes);
    }
    Ok(bytes)
}

#[cfg(all(feature = "std", target_os = "linux"))]
fn ask_for_huge_pages(bytes: &mut AVec<u8, RuntimeAlign>) {
    let (start, len) = (bytes.as_mut_ptr(), bytes.capacity());
    // SAFETY: madvise must be given page-aligned memory that this process owns, and an advice that leaves its contents
    // alone. The vector owns `capacity` bytes from `start` on, both multiples of 2 MiB, and MADV_HUGEPAGE changes the
    // size of pages only; a refusal leaves small pages, which are correct too. The test
    // `large_buffers_are_zeroed_aligned_and_advised` would notice another address, length or advice.
    let _ = unsafe { libc::madvise(start.cast(), len, libc::MADV_HUGEPAGE) };
}

#[cfg(not(all(feature = "std", target_os = "linux")))]
fn ask_for_huge_pages(_: &mut AVec<u8, RuntimeAlign>) {}

impl Deref for AlignedBuf {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for AlignedBuf {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Default for AlignedBuf {
    /// An empty buffer; nothing is allocated.
    fn default() -> Self {
        Self { bytes: AVec::new(LINE) }
    }
}

impl Clone for AlignedBuf {
    /// A buffer of the same bytes, on huge pages when large. Panics when memory runs out, as `Vec` does.
    fn clone(&self) -> Self {
        let mut bytes = reserve(self.len()).expect("memory for the copy of a buffer");
        bytes.extend_from_slice(self);
        Self { bytes }
    }
}

impl fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBuf({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_buffers_of_every_length_are_zeroed_and_aligned() {
        for len in [0, 1, 63, 64, 65, 4095, 4096, 4097, 100_000] {
            let b = AlignedBuf::zeroed(len).unwrap();
            assert_eq!((b.len(), b.is_empty(), b.as_ptr().addr() % LINE), (len, len == 0, 0));
            assert!(b.iter().all(|&x| x == 0));
        }
        assert!(AlignedBuf::default().is_empty());
    }

    #[test]
    fn large_buffers_are_zeroed_aligned_and_advised() {
        let mut b = AlignedBuf::zeroed(LARGE + 5).unwrap();
        assert_eq!((b.len(), b.as_ptr().addr() % HUGE_PAGE), (LARGE + 5, 0));
        assert!(b.iter().all(|&x| x == 0));
        b[LARGE + 4] = 9;
        let copy = b.clone();
        assert_eq!(copy.as_ptr().addr() % HUGE_PAGE, 0);
        assert_eq!(copy[..], b[..]);
        #[cfg(all(feature = "std", target_os = "linux"))]
        assert_advised(&b);
    }

    /// Every mapping of the kernel's list that overlaps the buffer carries the flag `hg`. Without huge pages in the
    /// kernel there is no such flag and nothing to check.
    #[cfg(all(feature = "std", target_os = "linux"))]
    fn assert_advised(b: &AlignedBuf) {
        let (Ok(maps), true) = (
            std::fs::read_to_string("/proc/self/smaps"),
            std::path::Path::new("/sys/kernel/mm/transparent_hugepage/enabled").exists(),
        ) else {
            return;
        };
        let (mut overlaps, mut seen) = (false, 0);
        for line in maps.lines() {
            let first = line.split_whitespace().next().unwrap_or("");
            let range = first
                .split_once('-')
                .and_then(|(a, b)| Some((usize::from_str_radix(a, 16).ok()?, usize::from_str_radix(b, 16).ok()?)));
            if let Some((start, end)) = range {
                overlaps = start < b.as_ptr().addr() + b.len() && end > b.as_ptr().addr();
            } else if let (true, Some(flags)) = (overlaps, line.strip_prefix("VmFlags:")) {
                assert!(flags.split_whitespace().any(|f| f == "hg"), "{line}");
                seen += b.len();
            }
        }
        assert!(seen > 0, "the buffer is in the list");
    }

    #[test]
    fn parts_are_zeroed_and_filled_once() {
        for (parts, bytes) in [(0, 5), (5, 0), (1, 1), (7, 100), (3, LARGE / 2)] {
            let threads = |_: usize, task: &Task<'_>| {
                std::thread::scope(|s| {
                    s.spawn(|| task(0));
                    task(1);
                });
            };
            // The second pool does nothing, and all is left to the caller.
            for run in [&threads as &dyn Fn(usize, &Task<'_>), &|_, _| {}] {
                let b = AlignedBuf::in_parts((parts, bytes), run, &|i, part| {
                    assert!(part.iter().all(|&x| x == 0));
                    if let Some(last) = part.last_mut() {
                        *last += 1 + i as u8;
                    }
                });
                let b = b.unwrap();
                assert_eq!(b.len(), parts * bytes);
                for (i, part) in b.chunks_exact(bytes.max(1)).enumerate() {
                    assert!(part[..bytes - 1].iter().all(|&x| x == 0));
                    assert_eq!(part[bytes - 1], 1 + i as u8, "part {i} of {parts}");
                }
            }
        }
    }

    /// A pool that swallows the panic of a task does not pass bytes off as filled that were not.
    #[test]
    #[should_panic(expected = "a part was not filled")]
    fn parts_that_were_not_filled_are_noticed() {
        let swallows = |_: usize, task: &Task<'_>| {
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| task(0)));
        };
        let _ = AlignedBuf::in_parts((3, 8), &swallows, &|i, _| assert!(i != 1));
    }

    #[test]
    fn impossible_lengths_are_errors() {
        for len in [usize::MAX, usize::MAX / 2, 1 << 62] {
            let error = AlignedBuf::zeroed(len).unwrap_err();
            assert!(matches!(error, Error::Memory { .. }), "{error}");
        }
    }
}
