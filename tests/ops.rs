//! Every vector operation of every supported tier against the portable definition, bit for bit, on random values and on
//! the edges of its domain. Values are streams, cut into vectors by each tier's own lane count.
#![forbid(unsafe_code)]
#![cfg(feature = "testing")]

mod toy;

use mixgemm::simd::isa::{Body, Dot, MatrixDot, Planes, ShortSums, Simd, SumTables, Tables, Work};
use mixgemm::simd::scalar::Scalar;
use mixgemm::testing::Draw;
use mixgemm::{Isa, f16, simd};

/// Streams are multiples of this, so that they are whole vectors of 3, 4, 5, 8 and 16 lanes.
const ROUND: usize = 240;

/// What an operation gave: its label and the bits of the stream of results.
type Log = Vec<(String, Vec<u32>)>;

fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_le_bytes()).collect()
}

fn to_ints<S: Simd>(simd: S, words: &[u32]) -> S::I {
    simd.load(&S::blocks(&bytes(words))[0])
}

fn from_ints<S: Simd>(simd: S, v: S::I) -> Vec<u32> {
    let mut out = vec![0i32; S::LANES];
    simd.store_i32(v, &mut S::ints(&mut out)[0]);
    out.iter().map(|&x| x as u32).collect()
}

fn to_floats<S: Simd>(simd: S, words: &[u32]) -> S::F {
    simd.load_f32(&bytes(words))
}

/// The bits of a vector; every NaN is one NaN.
fn from_floats<S: Simd>(simd: S, v: S::F) -> Vec<u32> {
    let mut out = vec![1f32; S::LANES];
    simd.store_floats(v, &mut S::floats(&mut out)[0]);
    out.iter()
        .map(|x| if x.is_nan() { 0x7FC0_0000 } else { x.to_bits() })
        .collect()
}

/// The one value in all lanes.
fn same(lanes: &[u32]) -> u32 {
    assert!(lanes.iter().all(|&x| x == lanes[0]), "{lanes:x?}");
    lanes[0]
}

fn padded(mut stream: Vec<u32>) -> Vec<u32> {
    stream.resize(stream.len().next_multiple_of(ROUND), 0);
    stream
}

fn random(draw: &mut Draw, len: usize) -> Vec<u32> {
    padded((0..len).map(|_| draw.bits() as u32).collect())
}

/// Random words, with edge cases against each other at the front.
fn with_edges(draw: &mut Draw, edges: &[u32], operand: u32) -> Vec<u32> {
    let count = edges.len();
    let mut out: Vec<u32> = (0..count.pow(3))
        .map(|i| edges[i / count.pow(operand) % count])
        .collect();
    out.extend(random(draw, 4 * ROUND));
    padded(out)
}

const INTS: [u32; 9] = [
    0,
    1,
    0xFFFF_FFFF,
    0x7FFF_FFFF,
    0x8000_0000,
    0x0101_0101,
    0x8080_8080,
    0x7F7F_7F7F,
    0x0001_0000,
];

const FLOATS: [u32; 11] = [
    0,
    0x8000_0000,
    1,
    0x807F_FFFF,
    0x3F80_0000,
    0xBF80_0001,
    0x7F7F_FFFF,
    0x7F80_0000,
    0xFF80_0000,
    0x3300_0000,
    0x4B80_0001,
];

struct Every;

impl Work for Every {
    type Args<'a> = Log;
}

impl<S: Simd> Body<S> for Every {
    #[inline(always)]
    fn body(simd: S, log: &mut Log) {
        let mut draw = Draw::new(7);
        integers(simd, &mut draw, log);
        stores(simd, &mut draw, log);
        fields(simd, &mut draw, log);
        books(simd, &mut draw, log);
        conversions(simd, &mut draw, log);
        floats(simd, &mut draw, log);
    }
}

#[inline(always)]
fn integers<S: Simd>(simd: S, draw: &mut Draw, log: &mut Log) {
    let [a, b, c] = [0, 1, 2].map(|operand| with_edges(draw, &INTS, operand));
    let mut ints = |label: &str, f: &dyn Fn(S::I, S::I, S::I) -> S::I| {
        let mut out = Vec::new();
        for i in (0..a.len()).step_by(S::LANES) {
            let [a, b, c] = [&a, &b, &c].map(|x| to_ints(simd, &x[i..i + S::LANES]));
            out.extend(from_ints(simd, f(a, b, c)));
        }
        log.push((label.into(), out));
    };
    ints("load and store_i32", &|a, _, _| a);
    ints("opaque", &|a, _, _| simd.opaque(a));
    ints("or", &|a, b, _| simd.or(a, b));
    ints("xor", &|a, b, _| simd.xor(a, b));
    ints("add", &|a, b, _| simd.add(a, b));
    ints("mul", &|a, b, _| simd.mul(a, b));
    ints("shl8", &|a, _, _| simd.shl8(a));
    for by in 1..32 {
        ints(&format!("sar {by}"), &|a, _, _| simd.sar(a, by));
    }
    ints("high16", &|a, _, _| simd.high16(a));
    ints("low16", &|a, _, _| simd.low16(a));
    ints("low24", &|a, _, _| simd.low24(a));
    let splats = |f: &dyn Fn(u32) -> Vec<u32>| a.iter().map(|&x| same(&f(x))).collect();
    let quad = splats(&|x| from_ints(simd, simd.splat_quad(x.to_le_bytes())));
    log.push(("splat_quad".into(), quad));
    let int = splats(&|x| from_ints(simd, simd.splat_i32(x as i32)));
    log.push(("splat_i32".into(), int));
}

/// Loads from every address, stores that leave their neighbours alone, and the narrow loads.
#[inline(always)]
fn stores<S: Simd>(simd: S, draw: &mut Draw, log: &mut Log) {
    let words = random(draw, ROUND);
    let raw = bytes(&words);
    for offset in 0..4 {
        let mut out = Vec::new();
        for v in S::blocks(&raw[offset..]).iter().take(1) {
            out.extend(from_ints(simd, simd.load(v)));
        }
        out.extend(from_floats(simd, simd.load_f32(&raw[offset..])));
        out.truncate(3);
        log.push((format!("load at offset {offset}"), out));
    }
    let mut ints = vec![77i32; 2 * S::LANES];
    simd.store_i32(simd.splat_i32(5), &mut S::ints(&mut ints[1..])[0]);
    let mut lanes = vec![77f32; 2 * S::LANES];
    simd.store_floats(simd.splat_f32(5.0), &mut S::floats(&mut lanes[1..])[0]);
    let kept = |i: usize| if (1..=S::LANES).contains(&i) { 5 } else { 77 };
    assert!(ints.iter().enumerate().all(|(i, &x)| x == kept(i)), "{ints:?}");
    assert!(lanes.iter().enumerate().all(|(i, &x)| x == kept(i) as f32), "{lanes:?}");

    let (mut nibbles, mut narrow, mut wide, mut through) = (vec![], vec![], vec![], vec![]);
    for v in words.chunks(S::LANES) {
        let low: Vec<u8> = v.iter().map(|&x| x as u8 & 15).collect();
        let packed: Vec<u8> = low
            .chunks(2)
            .map(|p| p[0] | p.get(1).copied().unwrap_or(9) << 4)
            .collect();
        nibbles.extend(from_ints(simd, simd.load_nibbles(&packed)));
        let single: Vec<u8> = v.iter().map(|&x| x as u8).collect();
        narrow.extend(from_ints(simd, simd.load_bytes(&single)));
        let double: Vec<u8> = v.iter().flat_map(|&x| (x as u16).to_le_bytes()).collect();
        wide.extend(from_ints(simd, simd.load_words(&double)));
        let mut values: Vec<f32> = v.iter().map(|&x| f32::from_bits(x & 0x7F7F_FFFF)).collect();
        through.extend(from_floats(simd, simd.load_floats(&S::floats(&mut values)[0])));
    }
    log.push(("load_nibbles".into(), nibbles));
    log.push(("load_bytes".into(), narrow));
    log.push(("load_words".into(), wide));
    log.push(("load_floats".into(), through));
    let signed: Vec<i32> = words.iter().map(|&x| x as i32).collect();
    let ints = S::int_blocks(&signed).iter();
    let ints = ints.flat_map(|v| from_ints(simd, simd.load_i32(v)));
    log.push(("load_i32".into(), ints.collect()));
}

#[inline(always)]
fn fields<S: Simd>(simd: S, draw: &mut Draw, log: &mut Log) {
    let words = random(draw, ROUND);
    for (right, left) in (0..8).map(|r| (r, 0)).chain((1..8).map(|l| (0, l))) {
        // Every mask that keeps a byte's own bits, so every digit of every width at every place is among them.
        let own = (0xFFu8 >> right) << left;
        for mask in (0..=255u8).filter(|m| m & !own == 0) {
            let mut out = Vec::new();
            for v in words[..2 * ROUND / 8].chunks_exact(S::LANES) {
                out.extend(from_ints(simd, simd.field(to_ints(simd, v), right, left, mask)));
            }
            log.push((format!("field >> {right} << {left} & {mask:#x}"), out));
        }
    }
}

/// Every number at every place, in tables of all bytes.
#[inline(always)]
fn books<S: Simd>(simd: S, draw: &mut Draw, log: &mut Log) {
    let numbers: Vec<u32> = random(draw, ROUND).iter().map(|x| x & 0x0F0F_0F0F).collect();
    for start in (0..=255u8).step_by(16) {
        let book = simd.book(&std::array::from_fn(|i| start + (i as u8 * 7) % 16));
        let mut out = Vec::new();
        for v in numbers.chunks_exact(S::LANES) {
            out.extend(from_ints(simd, simd.decode(book, to_ints(simd, v))));
        }
        log.push((format!("decode from {start}"), out));
    }
}

#[inline(always)]
fn conversions<S: Simd>(simd: S, draw: &mut Draw, log: &mut Log) {
    let finite = |h: &u16| !f16::from_bits(*h).is_nan();
    let halves = padded((0..=u16::MAX).filter(finite).map(u32::from).collect());
    let brains = padded((0..=u16::MAX).filter(|h| h & 0x7FFF <= 0x7F80).map(u32::from).collect());
    for (label, patterns, f16) in [("load_f16", halves, true), ("load_bf16", brains, false)] {
        let mut out = Vec::new();
        for v in patterns.chunks(S::LANES) {
            let v: Vec<u8> = v.iter().flat_map(|&x| (x as u16).to_le_bytes()).collect();
            out.extend(from_floats(
                simd,
                if f16 { simd.load_f16(&v) } else { simd.load_bf16(&v) },
            ));
        }
        log.push((label.into(), out));
    }
    // 24 significant bits, a half, and one more or less: ties and their neighbours at every exponent.
    let tie = |draw: &mut Draw, most: usize| {
        let bits = draw.bits();
        let shift = draw.below(most - 24);
        let odd = ((bits % (1 << 24)) | (1 << 23)) * 2 + 1;
        let value = ((odd << shift) >> 1) as i64 + draw.below(3) as i64 - 1;
        if bits >> 63 == 0 { value } else { -value }
    };
    let singles: Vec<u32> = (0..8 * ROUND).map(|_| tie(draw, 31) as u32).collect();
    let single_edges = with_edges(draw, &INTS, 0);
    let mut out = Vec::new();
    for v in singles.chunks(S::LANES).chain(single_edges.chunks(S::LANES)) {
        out.extend(from_floats(simd, simd.to_f32(to_ints(simd, v))));
    }
    log.push(("to_f32".into(), out));
    let mut pairs: Vec<i64> = (0..16 * ROUND).map(|_| tie(draw, 47)).collect();
    pairs.extend((0..ROUND).map(|_| (draw.bits() as i64) >> 16));
    pairs.extend([i64::MIN >> 16, i64::MAX >> 16, 0, -1, 65_535, 65_536, -65_536, 1 << 40]);
    pairs.resize(pairs.len().next_multiple_of(ROUND), 0);
    let expected: Vec<u32> = pairs.iter().map(|&v| (v as f32).to_bits()).collect();
    let mut out = Vec::new();
    for v in pairs.chunks(S::LANES) {
        // Balanced bytes from the low end, what is left on top: partial sums stay below 2^53.
        let mut rest = v.to_vec();
        let d = [0, 1, 2, 3].map(|j| {
            let digits = rest.iter_mut().map(|v| {
                let digit = if j < 3 { i64::from(*v as i8) } else { *v };
                *v = (*v - digit) >> 8;
                digit as u32
            });
            let digits: Vec<u32> = digits.collect();
            to_ints(simd, &digits)
        });
        out.extend(from_floats(simd, simd.slices_to_f32(d)));
    }
    assert_eq!(out, expected, "slices_to_f32 rounds once");
    log.push(("slices_to_f32".into(), out));
}

#[inline(always)]
fn floats<S: Simd>(simd: S, draw: &mut Draw, log: &mut Log) {
    let [a, b, c] = [0, 1, 2].map(|operand| with_edges(draw, &FLOATS, operand));
    // Products near the smallest normal, where flushing would show.
    let small = |x: &[u32]| -> Vec<u32> { x.iter().map(|x| x & 0x8FFF_FFFF | 0x1800_0000).collect() };
    let streams = [[a.clone(), b.clone(), c.clone()], [small(&a), small(&b), small(&c)]];
    for (round, [a, b, c]) in streams.iter().enumerate() {
        let mut three = |label: &str, f: &dyn Fn(S::F, S::F, S::F) -> S::F| {
            let mut out = Vec::new();
            for i in (0..a.len()).step_by(S::LANES) {
                let [a, b, c] = [a, b, c].map(|x| to_floats(simd, &x[i..i + S::LANES]));
                out.extend(from_floats(simd, f(a, b, c)));
            }
            log.push((format!("{label}, round {round}"), out));
        };
        three("mul_f32", &|a, b, _| simd.mul_f32(a, b));
        three("fma", &|a, b, c| simd.fma(a, b, c));
        three("select_nonzero", &|a, b, c| simd.select_nonzero(a, b, c));
        three("load_f32 and store_floats", &|a, _, _| a);
    }
    let splat = a
        .iter()
        .map(|&x| same(&from_floats(simd, simd.splat_f32(f32::from_bits(x)))));
    log.push(("splat_f32".into(), splat.collect()));
    let mut zeros: Vec<f32> = (-8..1048).map(|i| i as f32 * 0.25).collect();
    for z in zeros.clone() {
        zeros.extend([
            f32::from_bits(z.to_bits().wrapping_add(1)),
            f32::from_bits(z.to_bits().wrapping_sub(1)),
        ]);
    }
    zeros.retain(|z| z.is_finite());
    let large = [
        1e-40,
        4_194_303.5,
        8_388_609.0,
        1e10,
        f32::MAX,
        16_777_217.0,
        12_582_912.5,
    ];
    zeros.extend(large.iter().flat_map(|&z| [z, -z]));
    zeros.extend(b.iter().map(|&z| f32::from_bits(z)).filter(|z| z.is_finite()));
    let zeros = padded(zeros.iter().map(|z| z.to_bits()).collect());
    for max in (1..=8).map(|bits| (1 << bits) as f32) {
        let (mut z0, mut f) = (Vec::new(), Vec::new());
        for v in zeros.chunks(S::LANES) {
            let split = simd.split_zero(to_floats(simd, v), max);
            z0.extend(from_ints(simd, split.0));
            f.extend(from_floats(simd, split.1));
        }
        log.push((format!("split_zero up to {max}, integer"), z0));
        log.push((format!("split_zero up to {max}, fraction"), f));
    }
}

fn assert_agree(tier: &str, found: &Log, expected: &Log) {
    assert_eq!(found.len(), expected.len(), "{tier}");
    for ((label, found), (same_label, expected)) in found.iter().zip(expected) {
        assert_eq!(label, same_label);
        let differs = found.iter().zip(expected).position(|(a, b)| a != b);
        if let Some(i) = differs {
            panic!(
                "{tier}: {label}: element {i} is {:#x}, not {:#x}",
                found[i], expected[i]
            );
        }
        assert!(!expected.is_empty(), "{label} ran");
    }
}

#[test]
fn ops_agree_with_scalar() {
    let expected = portable_log::<16, Every>();
    for isa in Isa::ALL.into_iter().filter(|isa| isa.supported()) {
        let mut log = Log::new();
        simd::run::<Every>(isa, &mut log);
        assert_agree(isa.name(), &log, &expected);
    }
    check::<toy::Pairs, Every>(&expected);
}

/// Streams of w, the lower bits that `mask` keeps, and a: random, then every w with every a.
fn operands(mask: u8) -> [Vec<u32>; 2] {
    let mut draw = Draw::new(11);
    let mask = u32::from_le_bytes([mask; 4]);
    let mut streams = [0, 1].map(|operand| with_edges(&mut draw, &INTS, operand));
    for w in 0..=255 {
        for a in 0..=255 {
            streams[0].push(u32::from_le_bytes([w; 4]));
            streams[1].push(u32::from_le_bytes([a, 0, a, a]));
        }
    }
    streams[0].iter_mut().for_each(|w| *w &= mask);
    streams.map(padded)
}

/// Dot products whose w are codes below 128, then any.
struct Dots;

impl Work for Dots {
    type Args<'a> = Log;
}

impl<S: Dot> Body<S> for Dots {
    #[inline(always)]
    fn body(simd: S, log: &mut Log) {
        for (label, mask) in [("dot", 0x7F), ("dot of any bytes", 0xFF)] {
            let [w, a] = operands(mask);
            let mut out = Vec::new();
            for (w, a) in w.chunks(S::LANES).zip(a.chunks(S::LANES)) {
                let (mut w, a) = (to_ints(simd, w), to_ints(simd, a));
                let mut acc = simd.splat_i32(-5);
                if S::SIGNED && mask == 0xFF {
                    // q·a = (q − 128)·a + 64·a + 64·a
                    w = simd.xor(w, simd.splat_i32(0x8080_8080u32 as i32));
                    let half = simd.splat_quad([64; 4]);
                    acc = simd.dot(simd.dot(acc, half, a), half, a);
                }
                out.extend(from_ints(simd, simd.dot(acc, w, a)));
            }
            log.push((label.into(), out));
        }
    }
}

/// Sums in 16 bits: as many nibbles as fit every tier's, then the largest code once.
struct Shorts;

impl Work for Shorts {
    type Args<'a> = Log;
}

impl<S: ShortSums> Body<S> for Shorts {
    #[inline(always)]
    fn body(simd: S, log: &mut Log) {
        for (mask, times) in [(15, 8), (127, 1)] {
            let [w, a] = operands(mask);
            for left in [0, 4, 7] {
                let mut out = Vec::new();
                for (i, (w, a)) in w.chunks(S::LANES).zip(a.chunks(S::LANES)).enumerate() {
                    let (w, a) = (to_ints(simd, w), to_ints(simd, a));
                    let mut sums = simd.no_sums();
                    for _ in 0..times {
                        sums = simd.add_products(sums, w, a);
                    }
                    let acc: Vec<u32> = (0..S::LANES)
                        .map(|c| ((i * S::LANES + c) as u32).wrapping_mul(0x10_0001))
                        .collect();
                    out.extend(from_ints(simd, simd.settle(to_ints(simd, &acc), sums, left)));
                }
                log.push((format!("{times} sums of {mask:#x} << {left}"), out));
            }
        }
    }
}

/// The operations of the matrix rule, as streams that do not depend on the lane count.
struct Matrices;

impl Work for Matrices {
    type Args<'a> = Log;
}

impl<S: MatrixDot> Body<S> for Matrices {
    #[inline(always)]
    fn body(simd: S, log: &mut Log) {
        let draw = &mut Draw::new(9);
        let [a, b, c] = [0, 1, 2].map(|operand| with_edges(draw, &INTS, operand));
        let mut ints = |label: &str, f: &dyn Fn(S::I, S::I, S::I) -> S::I| {
            let mut out = Vec::new();
            for i in (0..a.len()).step_by(S::LANES) {
                let [a, b, c] = [&a, &b, &c].map(|x| to_ints(simd, &x[i..i + S::LANES]));
                out.extend(from_ints(simd, f(a, b, c)));
            }
            log.push((label.into(), out));
        };
        for half in 0..2 {
            ints("zip", &|a, b, _| simd.zip(a, b)[half]);
            ints("unzip", &|a, b, _| simd.unzip(a, b)[half]);
            ints("zip and unzip", &|a, b, _| {
                let [low, high] = simd.zip(a, b);
                simd.unzip(low, high)[half]
            });
        }
        ints("matrix_dot", &|acc, w, a| simd.matrix_dot(acc, w, a));
        let octets = [[[1, 2, 3, 4], [5, 6, 7, 8]], [[9, 10, 11, 12], [13, 14, 15, 255]]];
        ints("splat_octets", &|_, _, _| simd.splat_octets(octets));
    }
}

/// Sums of selected bytes, as many as fit every tier's.
struct Selections;

impl Work for Selections {
    type Args<'a> = Log;
}

impl<S: Planes> Body<S> for Selections {
    #[inline(always)]
    fn body(simd: S, log: &mut Log) {
        let [w, a] = operands(0xFF);
        for (bit, times) in (0..8).zip([1, 127].into_iter().cycle()) {
            let mut out = Vec::new();
            for (w, a) in w.chunks(S::LANES).zip(a.chunks(S::LANES)) {
                let mask = simd.mask(to_ints(simd, w), bit);
                let mut sums = simd.none_selected();
                for _ in 0..times {
                    sums = simd.add_selected(sums, mask, to_ints(simd, a));
                }
                out.extend(from_ints(simd, simd.settle_selected(simd.splat_i32(i32::MAX), sums)));
            }
            log.push((format!("bit {bit} selects {times} times"), out));
        }
    }
}

/// Sums of 32 activations in tables, and of what weights find there: as often as fits every tier's, then once.
struct LookUps;

impl Work for LookUps {
    type Args<'a> = Log;
}

impl<S: Tables> Body<S> for LookUps {
    #[inline(always)]
    fn body(simd: S, log: &mut Log) {
        let mut draw = Draw::new(13);
        let words = with_edges(&mut draw, &INTS, 0);
        let other = with_edges(&mut draw, &INTS, 1);
        let random: Vec<u8> = (0..32 * 6).map(|_| draw.bits() as u8).collect();
        let mut inputs = vec![[0x80; 32], [0x7F; 32], [0; 32]];
        inputs.extend(random.as_chunks::<32>().0);
        for (i, a) in inputs.iter().enumerate() {
            let tables = simd.tables(a);
            let flat = tables.as_flattened().as_flattened();
            log.push((format!("tables of input {i}"), flat.iter().map(|&x| x.into()).collect()));
            for times in [1, 8] {
                let mut out = [Vec::new(), Vec::new()];
                for (w, v) in words.chunks(S::LANES).zip(other.chunks(S::LANES)) {
                    let entries = simd.entries([to_ints(simd, w), to_ints(simd, v)]);
                    let mut sums = simd.start_from([simd.splat_i32(i32::MIN), simd.splat_i32(7)]);
                    for _ in 0..times {
                        sums = simd.look_up(sums, entries, &tables);
                    }
                    for (out, sums) in out.iter_mut().zip(simd.settle_looked(sums)) {
                        out.extend(from_ints(simd, sums));
                    }
                }
                log.push((format!("input {i} looked up {times} times"), out.concat()));
            }
        }
    }
}

fn portable_log<const N: usize, B>() -> Log
where
    B: for<'a> Work<Args<'a> = Log> + Body<Scalar<N>>,
{
    let mut log = Log::new();
    Scalar::<N>.frame::<B>(&mut log);
    log
}

/// Runs a body on a tier of this CPU, or does nothing.
fn check<S: Simd, B>(expected: &Log)
where
    B: for<'a> Work<Args<'a> = Log> + Body<S>,
{
    if let Some(simd) = S::detect() {
        let mut log = Log::new();
        simd.frame::<B>(&mut log);
        assert_agree(S::ISA.name(), &log, expected);
    }
}

#[test]
fn dot_products_agree_with_scalar() {
    let expected = portable_log::<16, Dots>();
    check::<Scalar<3>, Dots>(&expected);
    check::<toy::Pairs, Dots>(&expected);
    #[cfg(target_arch = "x86_64")]
    {
        check::<simd::avxvnni::AvxVnni, Dots>(&expected);
        check::<simd::avx512vnni::Avx512Vnni, Dots>(&expected);
    }
    #[cfg(target_arch = "aarch64")]
    {
        check::<simd::neondot::NeonDot, Dots>(&expected);
        check::<simd::neoni8mm::NeonI8mm, Dots>(&expected);
    }
}

#[test]
fn short_sums_agree_with_scalar() {
    let expected = portable_log::<16, Shorts>();
    check::<Scalar<5>, Shorts>(&expected);
    #[cfg(target_arch = "x86_64")]
    {
        check::<simd::avx2::Avx2, Shorts>(&expected);
        check::<simd::avxvnni::AvxVnni, Shorts>(&expected);
        check::<simd::avx512::Avx512, Shorts>(&expected);
        check::<simd::avx512vnni::Avx512Vnni, Shorts>(&expected);
    }
    #[cfg(target_arch = "aarch64")]
    check::<simd::neon::Neon, Shorts>(&expected);
}

#[test]
fn selections_agree_with_scalar() {
    let expected = portable_log::<16, Selections>();
    check::<Scalar<3>, Selections>(&expected);
    #[cfg(target_arch = "x86_64")]
    {
        check::<simd::avx2::Avx2, Selections>(&expected);
        check::<simd::avx512vnni::Avx512Vnni, Selections>(&expected);
    }
    #[cfg(target_arch = "aarch64")]
    check::<simd::neon::Neon, Selections>(&expected);
}

#[test]
fn look_ups_agree_with_scalar() {
    let expected = portable_log::<16, LookUps>();
    check::<Scalar<5>, LookUps>(&expected);
    #[cfg(target_arch = "x86_64")]
    {
        check::<simd::avx2::Avx2, LookUps>(&expected);
        check::<simd::avx512vbmi::Avx512Vbmi, LookUps>(&expected);
    }
    #[cfg(target_arch = "aarch64")]
    check::<simd::neon::Neon, LookUps>(&expected);
}

/// Entries are sums by their definition, and weights find those that their bits name.
#[test]
fn tables_are_what_they_say() {
    let a: [u8; 32] = std::array::from_fn(|k| (k * 89 + 3) as u8);
    let at = |k: usize| i32::from(a[k] as i8);
    let simd = Scalar::<1>;
    let tables: SumTables = simd.tables(&a);
    for (h, i, e) in (0..2).flat_map(|h| (0..64).map(move |at| (h, at / 16, at % 16))) {
        let sum: i32 = (0..4)
            .filter(|j| e >> j & 1 == 1)
            .map(|j| at(4 * (4 * h + j) + i))
            .sum();
        let [low, high] = tables[h].map(|part| part[16 * i + e]);
        assert_eq!(i32::from(low) + 128 * i32::from(high as i8), sum, "{h} {i} {e}");
        assert!(low < 128 && (-4..4).contains(&(high as i8)));
    }
    let w = 0x5AC3_0F96_u32;
    // Quad j of a block lies at bit j of its bytes.
    let bit = |k: usize| w >> (8 * (k % 4) + k / 4) & 1;
    let sum: i32 = (0..32).filter(|&k| bit(k) == 1).map(at).sum();
    let found = simd.look_up([[5], [0]], [[w as i32], [0]], &tables);
    assert_eq!(found, [[5 + sum], [0]]);
}

/// One block of four lanes by its definition; other tiers and lane counts by that.
#[test]
fn matrix_operations_are_what_they_say() {
    let one = Scalar::<4>;
    let bytes = |from: u8| -> Vec<u32> {
        let word = |i: u8| u32::from_le_bytes([0, 1, 2, 3].map(|b| from.wrapping_add(i * 52 + b * 13)));
        (0..4).map(word).collect()
    };
    let (w, a) = (bytes(3), bytes(200));
    let found = from_ints(
        one,
        one.matrix_dot(one.splat_i32(7), to_ints(one, &w), to_ints(one, &a)),
    );
    let flat = |x: &[u32]| -> Vec<u8> { x.iter().flat_map(|x| x.to_le_bytes()).collect() };
    let (w, a) = (flat(&w), flat(&a));
    for (i, j) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let sum: i32 = (0..8)
            .map(|e| i32::from(w[8 * i + e]) * i32::from(a[8 * j + e] as i8))
            .sum();
        assert_eq!(found[2 * i + j] as i32, 7 + sum, "{i} {j}");
    }
    let [a, b] = [[0, 1, 2, 3], [10, 11, 12, 13]];
    assert_eq!(one.zip(a, b), [[0, 10, 1, 11], [2, 12, 3, 13]]);
    assert_eq!(one.unzip(a, b), [[0, 2, 10, 12], [1, 3, 11, 13]]);
    let expected = portable_log::<4, Matrices>();
    check::<Scalar<12>, Matrices>(&expected);
    #[cfg(target_arch = "aarch64")]
    check::<simd::neoni8mm::NeonI8mm, Matrices>(&expected);
}

#[test]
fn portable_operations_do_not_depend_on_the_lane_count() {
    let expected = portable_log::<16, Every>();
    for (lanes, log) in [
        (3, portable_log::<3, Every>()),
        (4, portable_log::<4, Every>()),
        (5, portable_log::<5, Every>()),
        (8, portable_log::<8, Every>()),
        (12, portable_log::<12, Every>()),
    ] {
        assert_agree(&format!("{lanes} lanes"), &log, &expected);
    }
}
