//! What the operating system says about caches, pages and memory. Facts come from `/sys` and `/proc`; elsewhere, and
//! where a file is missing, they are unknown.
#![forbid(unsafe_code)]

use crate::cli::machine::{bytes, first_line, value};
use mixgemm::base::buffer::AlignedBuf;
use serde::Serialize;
use std::fs;

/// A cache of the first core.
#[derive(Debug, Serialize)]
pub(super) struct Cache {
    pub(super) level: u32,
    /// `Data`, `Instruction` or `Unified`.
    pub(super) kind: String,
    pub(super) bytes: u64,
    /// The cores that share it, as the system lists them.
    pub(super) shared_by: Option<String>,
}

/// Memory as it is now.
#[derive(Debug, Serialize)]
pub(super) struct System {
    pub(super) caches: Vec<Cache>,
    /// Bytes of a page.
    pub(super) page: Option<u64>,
    /// Bytes of a huge page.
    pub(super) huge_page: Option<u64>,
    /// Bytes of memory that programs can still have.
    pub(super) available_memory: Option<u64>,
    /// Bytes of an allocation of the kind that weights are kept in.
    pub(super) allocation: u64,
    /// How many of them lie on huge pages.
    pub(super) allocation_on_huge_pages: Option<u64>,
}

/// Bytes of the allocation that is looked at.
const ALLOCATION: usize = 64 << 20;

impl System {
    pub(super) fn here() -> mixgemm::Result<Self> {
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let buffer = AlignedBuf::zeroed(ALLOCATION)?;
        let maps = fs::read_to_string("/proc/self/smaps").unwrap_or_default();
        Ok(Self {
            caches: (0..16).filter_map(cache).collect(),
            page: page_bytes(&maps),
            huge_page: first_line("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size").and_then(|s| bytes(&s)),
            available_memory: kibibytes(&memory, "MemAvailable"),
            allocation: ALLOCATION as u64,
            allocation_on_huge_pages: on_huge_pages(&maps, buffer.as_ptr().addr(), ALLOCATION),
        })
    }
}

fn cache(index: usize) -> Option<Cache> {
    let fact = |name: &str| first_line(&format!("/sys/devices/system/cpu/cpu0/cache/index{index}/{name}"));
    Some(Cache {
        level: fact("level")?.parse().ok()?,
        kind: fact("type")?,
        bytes: bytes(&fact("size")?)?,
        shared_by: fact("shared_cpu_list"),
    })
}

/// The bytes of a line such as `MemTotal:  24 kB`.
fn kibibytes(text: &str, key: &str) -> Option<u64> {
    let count: u64 = value(text, key)?.strip_suffix("kB")?.trim().parse().ok()?;
    count.checked_mul(1024)
}

/// The page size of the first mapping, which is the program itself.
fn page_bytes(maps: &str) -> Option<u64> {
    kibibytes(maps, "KernelPageSize")
}

/// Addresses of a mapping's first line, `start-end flags …`.
fn range(line: &str) -> Option<(usize, usize)> {
    let (start, end) = line.split_whitespace().next()?.split_once('-')?;
    Some((
        usize::from_str_radix(start, 16).ok()?,
        usize::from_str_radix(end, 16).ok()?,
    ))
}

/// Bytes on huge pages in the mappings that hold a buffer, at most its own.
fn on_huge_pages(maps: &str, start: usize, len: usize) -> Option<u64> {
    let (mut inside, mut found) = (false, None);
    for line in maps.lines() {
        if let Some((first, end)) = range(line) {
            inside = first < start + len && end > start;
        } else if let (true, Some(bytes)) = (inside, kibibytes(line, "AnonHugePages")) {
            found = Some(found.unwrap_or(0) + bytes);
        }
    }
    found.map(|bytes| bytes.min(len as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
1000-3000 rw-p 00000000 00:00 0
KernelPageSize:        4 kB
AnonHugePages:         0 kB
200000-800000 rw-p 00000000 00:00 0
KernelPageSize:        4 kB
AnonHugePages:      4096 kB
VmFlags: rd wr hg
";

    #[test]
    fn mappings_are_read() {
        assert_eq!(page_bytes(MAPS), Some(4096));
        assert_eq!(on_huge_pages(MAPS, 0x20_0000, 8 << 20), Some(4 << 20));
        assert_eq!(on_huge_pages(MAPS, 0x20_0000, 1 << 20), Some(1 << 20));
        assert_eq!(on_huge_pages(MAPS, 0x1000, 0x1000), Some(0));
        assert_eq!(on_huge_pages(MAPS, 0x90_0000, 1), None);
    }

    #[test]
    fn what_is_missing_is_unknown() {
        assert_eq!(
            (page_bytes(""), on_huge_pages("", 1, 1), kibibytes("", "MemTotal")),
            (None, None, None)
        );
        assert_eq!(kibibytes("MemTotal: many\n", "MemTotal"), None);
        assert!(cache(999).is_none());
    }
}
