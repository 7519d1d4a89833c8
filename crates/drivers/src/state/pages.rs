//! Which rows of two databases can differ, told from their pages alone.
//!
//! A snapshot is a copy page for page, and a service changes few pages. Rows in a page that is equal on both sides, at
//! the same place in the same table, are equal and need no SQL; the other pages give ranges of rowids to look at. The
//! format is the one of sqlite.org's "Database File Format". Whatever isn't as it says (a cycle, a page that isn't
//! there, a damaged one) makes the answer "unknown", and the whole table is compared instead.

use super::{error::StateError, stop::Stop};
use std::{
    fs::File,
    ops::{Range, RangeInclusive},
    os::unix::fs::FileExt as _,
    path::Path,
};

/// All rowids there are.
pub(super) const ALL_ROWS: RangeInclusive<i64> = i64::MIN..=i64::MAX;
/// 256 KiB of each side stay in a processor's cache while they are compared; the largest page goes in four times.
const BLOCK_BYTES: usize = 256 << 10;
/// 16 Mi pages (64 GiB of 4 KiB pages): what is kept of each page takes 5 to 17 bytes.
const PAGES_MAX: u64 = 1 << 24;
/// 20 levels: SQLite goes no deeper either.
const LEVELS_MAX: usize = 20;
const TABLE_INTERIOR: u8 = 5;
const TABLE_LEAF: u8 = 13;
/// Counters that a copy sets anew: change counter, schema cookie, version-valid-for and SQLite's version.
const COUNTERS: [Range<usize>; 3] = [24..28, 40..44, 92..100];

/// Two databases that nobody writes, compared page by page.
#[derive(Debug)]
pub(super) struct Pages {
    /// The newer side and the older one.
    files: [File; 2],
    equal: bool,
    /// None if the two don't store the same values as the same bytes, or are too large.
    map: Option<Map>,
}

#[derive(Clone, Copy)]
enum Side {
    Now,
    Then,
}

/// What is known of each page; they are numbered from 1.
#[derive(Debug)]
struct Map {
    page_bytes: usize,
    /// Without the bytes that an extension reserved at the end of each page.
    usable_bytes: usize,
    pages: u32,
    differing: Bits,
    /// Pages that look like leaves of a table, by side.
    leaves: [Bits; 2],
    /// The first four bytes of each equal page: of an overflow page, the next page of its chain.
    next: Vec<u32>,
    /// Chains of overflow pages that begin in equal leaves, sorted by leaf.
    chains: Vec<Chain>,
}

#[derive(Debug)]
struct Chain {
    leaf: u32,
    first: u32,
    pages: u32,
}

impl Pages {
    /// Compares two files byte by byte, but for the counters in their headers.
    ///
    /// Errors: a file can't be read, or nobody waits for it any more.
    pub(super) fn compare(now: &Path, then: &Path, stop: &Stop) -> Result<Self, StateError> {
        let open = |path: &Path| {
            let file = File::open(path).map_err(|error| StateError::io("open", path, error))?;
            let bytes = file.metadata().map_err(|error| StateError::io("look at", path, error))?.len();
            Ok((file, bytes))
        };
        let ((now_file, now_bytes), (then_file, then_bytes)) = (open(now)?, open(then)?);
        let shorter = now_bytes.min(then_bytes);
        let mut blocks = [vec![0; BLOCK_BYTES], vec![0; BLOCK_BYTES]];
        let (mut equal, mut map, mut at) = (now_bytes == then_bytes, None, 0);
        while at < shorter {
            stop.check()?;
            let count = usize::try_from(shorter - at).unwrap_or(usize::MAX).min(BLOCK_BYTES);
            for (block, (file, path)) in blocks.iter_mut().zip([(&now_file, now), (&then_file, then)]) {
                file.read_exact_at(&mut block[..count], at).map_err(|error| StateError::io("read", path, error))?;
            }
            let [a, b] = &mut blocks;
            let (a, b) = (&mut a[..count], &mut b[..count]);
            if at == 0 && count >= 100 {
                map = Map::new(a, b, now_bytes, then_bytes);
                for counters in COUNTERS {
                    a[counters.clone()].fill(0);
                    b[counters].fill(0);
                }
            }
            let same = a == b;
            equal &= same;
            if map.as_mut().is_some_and(|map| map.note(a, b, at, same).is_none()) {
                map = None;
            }
            if !equal && map.is_none() {
                break;
            }
            at += count as u64;
        }
        Ok(Self { files: [now_file, then_file], equal, map })
    }

    /// Says whether nothing at all was written.
    pub(super) fn are_equal(&self) -> bool {
        self.equal
    }

    /// Gives the rowids at which the rows of a table can differ, in order and apart from each other, or none if only
    /// the rows themselves can tell. The numbers are those of the table's first page on each side.
    ///
    /// All rows outside of these ranges are the same bytes on both sides.
    pub(super) fn ranges(&self, now_root: u32, then_root: u32) -> Option<Vec<RangeInclusive<i64>>> {
        let map = self.map.as_ref()?;
        let mut mine = Bits::new(map.pages);
        self.walk(map, Side::Now, now_root, &mut |leaf, _| (!mine.replace(leaf, true)).then_some(()))?;
        let (mut ranges, mut steps) = (Vec::new(), map.pages);
        self.walk(map, Side::Then, then_root, &mut |leaf, rows| {
            if mine.has(leaf) && map.is_same_leaf(leaf, &mut steps)? {
                mine.replace(leaf, false);
            } else {
                ranges.push(rows);
            }
            Some(())
        })?;
        self.walk(map, Side::Now, now_root, &mut |leaf, rows| {
            if mine.has(leaf) {
                ranges.push(rows);
            }
            Some(())
        })?;
        Some(merged(ranges))
    }

    /// Visits the leaves of a table from left to right, each with the rowids that can be in it.
    fn walk(&self, map: &Map, side: Side, root: u32, visit: &mut Visit<'_>) -> Option<()> {
        // Page 1 is the schema's. No page is twice in a table.
        (root > 1).then_some(())?;
        let mut pages_left = map.pages;
        self.descend(map, side, root, ALL_ROWS, LEVELS_MAX, &mut pages_left, visit)
    }

    #[expect(clippy::too_many_arguments, reason = "what stays the same on the way down is not worth a type")]
    fn descend(
        &self,
        map: &Map,
        side: Side,
        number: u32,
        rows: RangeInclusive<i64>,
        levels: usize,
        pages_left: &mut u32,
        visit: &mut Visit<'_>,
    ) -> Option<()> {
        *pages_left = pages_left.checked_sub(1)?;
        let levels = levels.checked_sub(1)?;
        if map.leaves[side as usize].has(number) {
            return visit(number, rows);
        }
        let mut page = vec![0; map.page_bytes];
        let at = u64::from(number.checked_sub(1)?) * map.page_bytes as u64;
        self.files[side as usize].read_exact_at(&mut page, at).ok()?;
        match *page.first()? {
            TABLE_INTERIOR => {}
            // Past the end of the other side.
            TABLE_LEAF => return visit(number, rows),
            _ => return None,
        }
        let mut low = *rows.start();
        for cell in 0..usize::from(u16_at(&page, 3)?) {
            let at = usize::from(u16_at(&page, 12 + 2 * cell)?);
            let (key, _) = varint_at(&page, at + 4)?;
            let key = key.cast_signed();
            // The page left of a key has rows up to it, and after the key before it.
            (low <= key && key < *rows.end()).then_some(())?;
            self.descend(map, side, u32_at(&page, at)?, low..=key, levels, pages_left, visit)?;
            low = key.checked_add(1)?;
        }
        self.descend(map, side, u32_at(&page, 8)?, low..=*rows.end(), levels, pages_left, visit)
    }
}

type Visit<'a> = dyn FnMut(u32, RangeInclusive<i64>) -> Option<()> + 'a;

impl Map {
    /// Gives none if the two headers say that equal bytes can be different values.
    fn new(now: &[u8], then: &[u8], now_bytes: u64, then_bytes: u64) -> Option<Self> {
        // The size of a page, what is reserved in it, and the encoding of text.
        for same in [0..18, 20..21, 56..60] {
            (now[same.clone()] == then[same]).then_some(())?;
        }
        let page_bytes = match u16_at(now, 16)? {
            1 => 1 << 16,
            bytes if bytes >= 512 && bytes.is_power_of_two() => usize::from(bytes),
            _ => return None,
        };
        let usable_bytes = page_bytes - usize::from(now[20]);
        let whole = |bytes: u64| bytes.is_multiple_of(page_bytes as u64);
        let pages = now_bytes.max(then_bytes) / page_bytes as u64;
        // SQLite allows no usable part below 480 bytes.
        if usable_bytes < 480 || !whole(now_bytes) || !whole(then_bytes) || pages > PAGES_MAX {
            return None;
        }
        let pages = u32::try_from(pages).ok()?;
        let bits = || Bits::new(pages);
        let next = Vec::with_capacity(usize::try_from(pages).ok()?);
        let (leaves, chains) = ([bits(), bits()], Vec::new());
        Some(Self { page_bytes, usable_bytes, pages, differing: bits(), leaves, next, chains })
    }

    /// Notes what the pages of a block are; gives none if there are more chains than pages for them.
    fn note(&mut self, now: &[u8], then: &[u8], at: u64, same: bool) -> Option<()> {
        let mut number = u32::try_from(at / self.page_bytes as u64).ok()?;
        for (now, then) in now.chunks_exact(self.page_bytes).zip(then.chunks_exact(self.page_bytes)) {
            number += 1;
            self.next.push(u32_at(now, 0)?);
            for (leaves, page) in self.leaves.iter_mut().zip([now, then]) {
                if page.first() == Some(&TABLE_LEAF) {
                    leaves.replace(number, true);
                }
            }
            if !same && now != then {
                self.differing.replace(number, true);
            } else if now.first() == Some(&TABLE_LEAF) && self.note_chains(number, now).is_none() {
                // Not what a leaf looks like: it may be another page, or damaged.
                self.differing.replace(number, true);
            }
        }
        (self.chains.len() <= usize::try_from(self.pages).ok()?).then_some(())
    }

    /// Notes the chains that begin in a leaf.
    fn note_chains(&mut self, leaf: u32, page: &[u8]) -> Option<()> {
        let cells = usize::from(u16_at(page, 3)?);
        let usable = self.usable_bytes as u64;
        for pointer in page.get(8..8 + 2 * cells)?.chunks_exact(2) {
            let at = usize::from(u16::from_be_bytes([pointer[0], pointer[1]]));
            let (bytes, length) = varint_at(page, at)?;
            if bytes <= usable - 35 {
                continue;
            }
            // Part of such a row is in the leaf, as the format says; the rest fills whole pages but for the last.
            let local_min = (usable - 12) * 32 / 255 - 23;
            let local = local_min + (bytes - local_min) % (usable - 4);
            let local = if local <= usable - 35 { local } else { local_min };
            let (_, rowid_length) = varint_at(page, at + length)?;
            let first = u32_at(page, at + length + rowid_length + usize::try_from(local).ok()?)?;
            let pages = u32::try_from((bytes - local).div_ceil(usable - 4)).ok()?;
            self.chains.push(Chain { leaf, first, pages });
        }
        Some(())
    }

    /// Says whether a leaf that both sides have holds the same rows, with all that overflows from it.
    ///
    /// Gives none if more overflow pages are seen than there are pages: then chains meet.
    fn is_same_leaf(&self, leaf: u32, steps_left: &mut u32) -> Option<bool> {
        if self.differs(leaf) {
            return Some(false);
        }
        let from = self.chains.partition_point(|chain| chain.leaf < leaf);
        for chain in self.chains[from..].iter().take_while(|chain| chain.leaf == leaf) {
            let mut at = chain.first;
            for _ in 0..chain.pages {
                *steps_left = steps_left.checked_sub(1)?;
                if self.differs(at) {
                    return Some(false);
                }
                at = self.next.get(usize::try_from(at).ok()?.checked_sub(1)?).copied()?;
            }
        }
        Some(true)
    }

    /// Says whether a page isn't the same on both sides: pages that one side lacks are not.
    fn differs(&self, number: u32) -> bool {
        number == 0 || number as usize > self.next.len() || self.differing.has(number)
    }
}

/// One bit for each page.
#[derive(Debug)]
struct Bits(Vec<u64>);

impl Bits {
    fn new(pages: u32) -> Self {
        Self(vec![0; pages as usize / 64 + 1])
    }

    fn has(&self, page: u32) -> bool {
        self.0.get(page as usize / 64).is_some_and(|word| word >> (page % 64) & 1 == 1)
    }

    /// Sets a bit and gives what it was.
    fn replace(&mut self, page: u32, set: bool) -> bool {
        let was = self.has(page);
        if let Some(word) = self.0.get_mut(page as usize / 64) {
            let bit = 1 << (page % 64);
            *word = if set { *word | bit } else { *word & !bit };
        }
        was
    }
}

fn merged(mut ranges: Vec<RangeInclusive<i64>>) -> Vec<RangeInclusive<i64>> {
    ranges.sort_unstable_by_key(|range| *range.start());
    ranges.dedup_by(|next, kept| {
        let touches = *next.start() <= kept.end().saturating_add(1);
        if touches {
            *kept = *kept.start()..=*kept.end().max(next.end());
        }
        touches
    });
    ranges
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Reads a number of one to nine bytes: seven bits in each, eight in the ninth. Gives also its length.
fn varint_at(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    let mut value = 0;
    for length in 1..=8 {
        let byte = *bytes.get(at + length - 1)?;
        value = value << 7 | u64::from(byte & 0x7f);
        if byte < 0x80 {
            return Some((value, length));
        }
    }
    Some((value << 8 | u64::from(*bytes.get(at + 8)?), 9))
}
