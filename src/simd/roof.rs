//! Roofs: what this machine can do at most, measured. Integer and float peaks come from register loops without loads
//! or stores, the memory roof from reading a buffer far beyond the last-level cache.
//!
//! A sample is short and means something only beside a measurement of the same second: clocks change, and memory is
//! shared with others. Threads start together and the clock runs from the start of the first to the end of the last.
#![allow(
    unsafe_code,
    reason = "peaks are loops over one instruction; calling them needs its presence proved"
)]

use crate::simd;
use crate::simd::cpu::Isa;
use crate::simd::isa::{Body, Simd};
use crate::simd::peak::{self, Loop};
use core::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Integer multiply-adds of 8-bit operands on `threads` threads, in operations a second: 2 per multiply-add.
///
/// A tier with products of byte matrices or a dot product of bytes repeats that. One without adds products up in 16 bits eight times, as often as
/// those of 4-bit codes fit, then in 32 bits. The scalar tier's kernels are portable code that the compiler vectorises for
/// the target's baseline, so its peak is that of the baseline: on x86-64 `pmaddwd` and `paddd` over widened 8-bit
/// operands; elsewhere whatever the compiler makes of the products of such operands in the first-level cache, added up in
/// i32.
///
/// # Panics
/// When this CPU does not have the tier.
#[must_use]
pub fn integer_peak(isa: Isa, threads: usize, time: Duration) -> f64 {
    rate(integer_loop(isa), threads, time)
}

/// f32 multiply-adds on `threads` threads, in operations a second: 2 per multiply-add. The scalar tier multiplies, then
/// adds.
///
/// # Panics
/// When this CPU does not have the tier.
#[must_use]
pub fn f32_peak(isa: Isa, threads: usize, time: Duration) -> f64 {
    assert!(isa.supported(), "isa: expected a tier of this CPU, found {isa}");
    match isa {
        Isa::Scalar => rate(portable::float, threads, time),
        _ => rate(|args| simd::run::<peak::Floats>(isa, args), threads, time),
    }
}

/// A tier's integer loop.
fn integer_loop(isa: Isa) -> fn(&mut Loop) {
    #[cfg(target_arch = "x86_64")]
    use crate::simd::{avx2::Avx2, avx512::Avx512, avx512vnni::Avx512Vnni, avxvnni::AvxVnni};
    #[cfg(target_arch = "aarch64")]
    use crate::simd::{neon::Neon, neondot::NeonDot, neoni8mm::NeonI8mm};
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => within::<Avx2, peak::Shorts>,
        #[cfg(target_arch = "x86_64")]
        Isa::AvxVnni => within::<AvxVnni, peak::Dots>,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => within::<Avx512, peak::Shorts>,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni => within::<Avx512Vnni, peak::Dots>,
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => within::<Neon, peak::Shorts>,
        #[cfg(target_arch = "aarch64")]
        Isa::NeonDot => within::<NeonDot, peak::Dots>,
        #[cfg(target_arch = "aarch64")]
        Isa::NeonI8mm => within::<NeonI8mm, peak::Matrices>,
        _ => portable::integer,
    }
}

/// Runs a loop in a tier's frame.
fn within<S: Simd, B: Body<S>>(args: &mut B::Args<'_>) {
    S::detect().expect("isa: expected a tier of this CPU").frame::<B>(args);
}

/// Steps between two looks at the clock: some ten microseconds.
const STEPS: usize = 2048;

fn rate(run: impl Fn(&mut Loop) + Sync, threads: usize, time: Duration) -> f64 {
    let operations = AtomicUsize::new(0);
    let (seconds, _) = together(threads, |_| {
        let start = Instant::now();
        let mut own = 0;
        while start.elapsed() < time {
            let mut args = Loop {
                steps: STEPS,
                operations: 0,
            };
            run(&mut args);
            own += STEPS * args.operations;
        }
        operations.fetch_add(own, Ordering::Relaxed);
    });
    operations.into_inner() as f64 / seconds
}

/// Runs `work` on `threads` threads that start together, with numbers from 0 on; gives the seconds from the first start
/// to the last end, and how many threads there were: fewer where the system starts no more. The calling thread is one
/// of them.
fn together(threads: usize, work: impl Fn(usize) + Sync) -> (f64, usize) {
    together_from(threads, thread::Builder::new, work)
}

fn together_from(threads: usize, builder: impl Fn() -> thread::Builder, work: impl Fn(usize) + Sync) -> (f64, usize) {
    let arrived = AtomicUsize::new(0);
    // Unknown until all that can be started are.
    let expected = AtomicUsize::new(usize::MAX);
    let timed = |thread| {
        arrived.fetch_add(1, Ordering::AcqRel);
        // Waking sleepers one after the other would start them apart.
        while arrived.load(Ordering::Acquire) < expected.load(Ordering::Acquire) {
            thread::yield_now();
        }
        let start = Instant::now();
        work(thread);
        (start, Instant::now())
    };
    let spans: Vec<_> = thread::scope(|scope| {
        let timed = &timed;
        let mut others = Vec::new();
        while others.len() + 1 < threads {
            let number = others.len() + 1;
            let Ok(other) = builder().spawn_scoped(scope, move || timed(number)) else {
                break;
            };
            others.push(other);
        }
        expected.store(others.len() + 1, Ordering::Release);
        let own = timed(0);
        let joined = others.into_iter().map(|t| t.join().expect("a roof loop ends"));
        core::iter::once(own).chain(joined).collect()
    });
    let start = spans.iter().map(|s| s.0).min().expect("at least one thread");
    let end = spans.iter().map(|s| s.1).max().expect("at least one thread");
    ((end - start).as_secs_f64(), spans.len())
}

mod portable {
    use super::{Loop, black_box};
    #[cfg(target_arch = "x86_64")]
    use core::arch::x86_64::{_mm_add_epi32, _mm_madd_epi16, _mm_set1_epi16};

    /// Multiply-adds of one step.
    #[cfg(target_arch = "x86_64")]
    const TERMS: usize = 8 * CHAINS;

    /// Independent accumulators: with an operand and a product they fit the 16 registers of SSE2.
    #[cfg(target_arch = "x86_64")]
    const CHAINS: usize = 12;

    #[cfg(target_arch = "x86_64")]
    pub(super) fn integer(args: &mut Loop) {
        args.operations = 2 * TERMS;
        // SAFETY: the CPU must have SSE2. Every x86-64 CPU has; a target without it would make the test
        // `every_tier_has_peaks` die of an illegal instruction.
        unsafe { pmaddwd(args.steps) }
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
    pub(super) fn integer(args: &mut Loop) {
        args.operations = 2 * TERMS;
        let a: [i16; TERMS] = black_box(core::array::from_fn(|i| i16::from(i as u8)));
        let b: [i16; TERMS] = black_box(core::array::from_fn(|i| i16::from((i * 7) as i8)));
        let mut sums = [0i32; 16];
        for _ in 0..args.steps {
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

    pub(super) fn float(args: &mut Loop) {
        args.operations = 2 * LANES;
        let (a, b) = (black_box(0.5f32), black_box(1.0f32));
        let mut sums = black_box([0.0f32; LANES]);
        for _ in 0..args.steps {
            for y in &mut sums {
                *y = *y * a + b;
            }
        }
        black_box(sums);
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::black_box;
    use core::arch::x86_64::{_mm512_loadu_si512, _mm512_setzero_si512, _mm512_xor_si512};

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
        let (seconds, threads) = together(threads, |t| read(&region[t * part..][..part]));
        (part * threads) as f64 / seconds
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
        let (seconds, threads) = together(3, |t| {
            calls[t].fetch_add(1, Ordering::Relaxed);
            thread::sleep(Duration::from_millis(2));
        });
        assert!(seconds >= 2e-3 && threads == 3);
        assert!(calls.iter().all(|c| c.load(Ordering::Relaxed) == 1));
    }
    /// No address space holds the stack of the third thread.
    #[test]
    fn a_thread_that_cannot_start_is_not_waited_for() {
        let (asked, calls) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let builder = || match asked.fetch_add(1, Ordering::Relaxed) {
            0 => thread::Builder::new(),
            _ => thread::Builder::new().stack_size(usize::MAX / 4),
        };
        let (seconds, threads) = together_from(4, builder, |t| {
            assert!(t < 2);
            calls.fetch_add(1, Ordering::Relaxed);
        });
        assert!(seconds >= 0.0);
        assert_eq!((threads, calls.into_inner()), (2, 2));
    }
}
