//! Roofs: what this machine can do at most, measured. Integer and float peaks come from register loops without loads
//! or stores, the memory roof from reading a buffer far beyond the last-level cache.
//!
//! A sample is short and means something only beside a measurement of the same second: clocks change, and memory is
//! shared with others. Threads start together and the clock runs from the start of the first to the end of the last.
#![allow(
    unsafe_code,
    reason = "peaks are loops over one instruction; calling them needs its presence proved"
)]

use crate::simd::cpu::Isa;
use core::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A loop of `steps` steps over one instruction, and the operations of one step.
struct Peak {
    run: fn(usize),
    operations: usize,
}

/// Integer multiply-adds of 8-bit operands on `threads` threads, in operations a second: 2 per multiply-add.
///
/// The scalar tier's kernels are portable code that the compiler vectorises for the target's baseline, so its peak is
/// that of the baseline. On x86-64 this is `pmaddwd` and `paddd` over widened 8-bit operands; elsewhere it is whatever
/// the compiler makes of the products of such operands in the first-level cache, added up in i32.
///
/// # Panics
/// When this CPU does not have the tier.
#[must_use]
pub fn integer_peak(isa: Isa, threads: usize, time: Duration) -> f64 {
    assert!(isa.supported(), "isa: expected a tier of this CPU, found {isa}");
    let peak = match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni => avx512::INTEGER,
        _ => portable::INTEGER,
    };
    rate(&peak, threads, time)
}

/// f32 multiply-adds on `threads` threads, in operations a second: 2 per multiply-add. The scalar tier multiplies, then
/// adds.
///
/// # Panics
/// When this CPU does not have the tier.
#[must_use]
pub fn f32_peak(isa: Isa, threads: usize, time: Duration) -> f64 {
    assert!(isa.supported(), "isa: expected a tier of this CPU, found {isa}");
    let peak = match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni => avx512::F32,
        _ => portable::F32,
    };
    rate(&peak, threads, time)
}

/// Steps between two looks at the clock: some ten microseconds.
const STEPS: usize = 2048;

fn rate(peak: &Peak, threads: usize, time: Duration) -> f64 {
    let calls = AtomicUsize::new(0);
    let seconds = together(threads, |_| {
        let start = Instant::now();
        let mut own = 0;
        while start.elapsed() < time {
            (peak.run)(STEPS);
            own += 1;
        }
        calls.fetch_add(own, Ordering::Relaxed);
    });
    (calls.into_inner() * STEPS * peak.operations) as f64 / seconds
}

/// Runs `work(thread)` on `threads` threads that start together, and returns the seconds from the first start to the
/// last end. The calling thread is one of them.
fn together(threads: usize, work: impl Fn(usize) + Sync) -> f64 {
    let threads = threads.max(1);
    let arrived = AtomicUsize::new(0);
    let timed = |thread| {
        arrived.fetch_add(1, Ordering::AcqRel);
        // Waking sleepers one after the other would start them apart.
        while arrived.load(Ordering::Acquire) < threads {
            thread::yield_now();
        }
        let start = Instant::now();
        work(thread);
        (start, Instant::now())
    };
    let spans: Vec<_> = thread::scope(|scope| {
        let timed = &timed;
        let others: Vec<_> = (1..threads).map(|t| scope.spawn(move || timed(t))).collect();
        let own = timed(0);
        let joined = others.into_iter().map(|t| t.join().expect("a roof loop ends"));
        core::iter::once(own).chain(joined).collect()
    });
    let start = spans.iter().map(|s| s.0).min().expect("at least one thread");
    let end = spans.iter().map(|s| s.1).max().expect("at least one thread");
    (end - start).as_secs_f64()
}

mod portable {
    use super::{Peak, black_box};
    #[cfg(target_arch = "x86_64")]
    use core::arch::x86_64::{_mm_add_epi32, _mm_madd_epi16, _mm_set1_epi16};

    pub(super) const INTEGER: Peak = Peak {
        run: integer,
        operations: 2 * TERMS,
    };

    pub(super) const F32: Peak = Peak {
        run: float,
        operations: 2 * LANES,
    };

    /// Multiply-adds of one step.
    #[cfg(target_arch = "x86_64")]
    const TERMS: usize = 8 * CHAINS;

    /// Independent accumulators: with an operand and a product they fit the 16 registers of SSE2.
    #[cfg(target_arch = "x86_64")]
    const CHAINS: usize = 12;

    #[cfg(target_arch = "x86_64")]
    fn integer(steps: usize) {
        // SAFETY: the CPU must have SSE2. Every x86-64 CPU has; a target without it would make the test
        // `every_tier_has_peaks` die of an illegal instruction.
        unsafe { pmaddwd(steps) }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "sse2")]
    fn pmaddwd(steps: usize) {
        let b = black_box(_mm_set1_epi16(3));
        let mut sums = black_box([_mm_set1_epi16(1); CHAINS]);
        for _ in 0..steps {
            for sum in &mut sums {
                // The sum is an operand too: constant products would be formed once, outside the loop.
                *sum = _mm_add_epi32(*sum, _mm_madd_epi16(*sum, b));
            }
        }
        black_box(sums);
    }

    /// Terms of one dot product; both operands together take 2 KiB.
    #[cfg(not(target_arch = "x86_64"))]
    const TERMS: usize = 512;

    #[cfg(not(target_arch = "x86_64"))]
    fn integer(steps: usize) {
        let a: [i16; TERMS] = black_box(core::array::from_fn(|i| i16::from(i as u8)));
        let b: [i16; TERMS] = black_box(core::array::from_fn(|i| i16::from((i * 7) as i8)));
        let mut sums = [0i32; 16];
        for _ in 0..steps {
            let (a, b) = (black_box(&a), black_box(&b));
            for (a, b) in a.as_chunks::<16>().0.iter().zip(b.as_chunks::<16>().0) {
                for (sum, (&a, &b)) in sums.iter_mut().zip(a.iter().zip(b)) {
                    *sum = sum.wrapping_add(i32::from(a) * i32::from(b));
                }
            }
        }
        black_box(sums);
    }

    /// Twelve vectors of the narrowest baseline.
    const LANES: usize = 48;

    fn float(steps: usize) {
        let (a, b) = (black_box(0.5f32), black_box(1.0f32));
        let mut sums = black_box([0.0f32; LANES]);
        for _ in 0..steps {
            for y in &mut sums {
                *y = *y * a + b;
            }
        }
        black_box(sums);
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::{Peak, black_box};
    use core::arch::x86_64::{_mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_loadu_si512, _mm512_xor_si512};
    use core::arch::x86_64::{_mm512_set1_epi8, _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512};

    /// Independent accumulators: several times the latency of either instruction.
    const CHAINS: usize = 16;

    pub(super) const INTEGER: Peak = Peak {
        run: |steps| {
            // SAFETY: the CPU must have AVX-512 F and VNNI. `integer_peak` is the only user of this constant, for
            // `Isa::Avx512Vnni` after `Isa::supported`. Without it the test `every_tier_has_peaks` dies of an illegal
            // instruction.
            unsafe { vpdpbusd(steps) }
        },
        operations: 128 * CHAINS,
    };

    pub(super) const F32: Peak = Peak {
        run: |steps| {
            // SAFETY: the CPU must have AVX-512 F. `f32_peak` is the only user of this constant, for
            // `Isa::Avx512Vnni` after `Isa::supported`. Without it the test `every_tier_has_peaks` dies of an illegal
            // instruction.
            unsafe { vfmadd(steps) }
        },
        operations: 32 * CHAINS,
    };

    #[target_feature(enable = "avx512f,avx512vnni")]
    fn vpdpbusd(steps: usize) {
        let (a, b) = black_box((_mm512_set1_epi8(3), _mm512_set1_epi8(-5)));
        let mut sums = [_mm512_setzero_si512(); CHAINS];
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, a, b);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx512f")]
    fn vfmadd(steps: usize) {
        let (a, b) = black_box((_mm512_set1_ps(0.5), _mm512_set1_ps(1.0)));
        let mut sums = [_mm512_setzero_ps(); CHAINS];
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, a, b);
            }
        }
        black_box(sums);
    }

    /// [`super::read`] with one load a line.
    #[target_feature(enable = "avx512f")]
    pub(super) fn read<const STREAMS: usize>(part: &[u8]) {
        let (lines, _) = part.as_chunks::<64>();
        let length = lines.len() / STREAMS;
        let mut sums = [_mm512_setzero_si512(); STREAMS];
        for i in 0..length {
            for (stream, sum) in sums.iter_mut().enumerate() {
                let line = &lines[stream * length + i];
                // SAFETY: the load must stay within memory that may be read. `line` is an array of the 64 bytes that
                // one load takes, and no alignment is asked for. The test `dram_roof_reads_everything_and_moves_on`
                // would read past the end of its buffer.
                *sum = _mm512_xor_si512(*sum, unsafe { _mm512_loadu_si512(line.as_ptr().cast()) });
            }
        }
        black_box(sums);
    }
}

/// The memory roof: the rate of plain sequential reads, the best of one, two and four streams a thread.
///
/// Every reading continues where the one before ended, so a buffer of a gibibyte is read anew each time.
///
/// ```
/// use mixgemm::simd::roof::DramRoof;
/// let mut buffer = vec![0; 1 << 20]; // a real roof takes 1 GiB on huge pages
/// assert!(DramRoof::new(&mut buffer).sample(1) > 0.0);
/// ```
#[derive(Debug)]
pub struct DramRoof<'a> {
    buffer: &'a [u8],
    next: usize,
}

/// Bytes of one reading: some milliseconds.
const READING: usize = 256 << 20;

impl<'a> DramRoof<'a> {
    /// Fills the buffer, with all threads of the machine, so that every page is memory of its own.
    #[must_use]
    pub fn new(buffer: &'a mut [u8]) -> Self {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let part = buffer.len().div_ceil(threads).max(1);
        thread::scope(|scope| {
            for (i, part) in buffer.chunks_mut(part).enumerate() {
                scope.spawn(move || part.fill(i as u8 | 0x40));
            }
        });
        Self { buffer, next: 0 }
    }

    /// Bytes a second on `threads` threads. One sample takes some 20 to 60 milliseconds with a buffer of a gibibyte.
    #[must_use]
    pub fn sample(&mut self, threads: usize) -> f64 {
        let one = self.rate(threads, read_streams::<1>);
        let two = self.rate(threads, read_streams::<2>);
        let four = self.rate(threads, read_streams::<4>);
        one.max(two).max(four)
    }

    fn rate(&mut self, threads: usize, read: fn(&[u8])) -> f64 {
        let threads = threads.max(1);
        // A multiple of what four streams of 64-byte lines divide.
        let part = READING.min(self.buffer.len() / 4) / threads / 256 * 256;
        let bytes = part * threads;
        if bytes == 0 {
            return 0.0;
        }
        if self.next + bytes > self.buffer.len() {
            self.next = 0;
        }
        let region = &self.buffer[self.next..][..bytes];
        self.next += bytes;
        bytes as f64 / together(threads, |t| read(&region[t * part..][..part]))
    }
}

#[inline(never)]
fn read_streams<const STREAMS: usize>(part: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx512f") {
        // SAFETY: the CPU must have AVX-512 F, which has just been detected. Without it the test
        // `dram_roof_reads_everything_and_moves_on` dies of an illegal instruction.
        return unsafe { avx512::read::<STREAMS>(part) };
    }
    read::<STREAMS>(part);
}

/// Combines all 64-byte lines of as many equal streams, one line of each in turn. The combination is used, so every
/// line is loaded.
fn read<const STREAMS: usize>(part: &[u8]) {
    let (lines, _) = part.as_chunks::<64>();
    let length = lines.len() / STREAMS;
    let mut sums = [[0u64; 8]; STREAMS];
    for i in 0..length {
        for (stream, sum) in sums.iter_mut().enumerate() {
            let (words, _) = lines[stream * length + i].as_chunks::<8>();
            for (sum, word) in sum.iter_mut().zip(words) {
                *sum ^= u64::from_ne_bytes(*word);
            }
        }
    }
    black_box(sums);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tier_has_peaks() {
        for isa in Isa::ALL.into_iter().filter(|isa| isa.supported()) {
            for threads in [0, 1, 2] {
                assert!(integer_peak(isa, threads, Duration::from_millis(1)) > 1e6, "{isa}");
                assert!(f32_peak(isa, threads, Duration::from_millis(1)) > 1e6, "{isa}");
            }
        }
    }

    #[test]
    fn dram_roof_reads_everything_and_moves_on() {
        let mut buffer = vec![0; 4 << 20];
        let mut roof = DramRoof::new(&mut buffer);
        for threads in [1, 2, 3] {
            let before = roof.next;
            assert!(roof.sample(threads) > 1e6);
            assert_ne!(roof.next, before);
        }
        assert!(roof.buffer.iter().all(|&x| x != 0));
    }

    #[test]
    fn a_buffer_too_small_to_measure_gives_zero() {
        assert_eq!(DramRoof::new(&mut []).sample(2), 0.0);
        assert_eq!(DramRoof::new(&mut [0; 300]).sample(1), 0.0);
    }

    #[test]
    fn threads_start_together_and_each_works_once() {
        let calls: [AtomicUsize; 3] = Default::default();
        let seconds = together(3, |t| {
            calls[t].fetch_add(1, Ordering::Relaxed);
            thread::sleep(Duration::from_millis(2));
        });
        assert!(seconds >= 2e-3);
        assert!(calls.iter().all(|c| c.load(Ordering::Relaxed) == 1));
    }
}
