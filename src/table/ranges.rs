//! Ranges of ids: where to cut them so that each holds about as many rows as a chunk.

use super::keys::KeyRange;

/// Ids kept to find the cuts; enough that a range is within a few percent of its size.
const SAMPLE_IDS: usize = 65_536;

/// The smallest and greatest id seen.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct IdBounds(Option<(i128, i128)>);

impl IdBounds {
    /// Takes one more id.
    pub(super) fn add(&mut self, id: i128) {
        let (min, max) = self.0.unwrap_or((id, id));
        self.0 = Some((min.min(id), max.max(id)));
    }

    /// The range of all ids seen, if there were any.
    pub(super) fn range(&self) -> Option<KeyRange> {
        self.0.map(|(min, max)| KeyRange::Ids(min, max))
    }
}

/// An even sample of many ids: every n-th, n doubling whenever the sample is full.
#[derive(Debug)]
pub(super) struct Sample {
    ids: Vec<i128>,
    stride: usize,
    skipped: usize,
}

impl Default for Sample {
    fn default() -> Self {
        Self { ids: Vec::new(), stride: 1, skipped: 0 }
    }
}

impl Sample {
    /// Takes more ids.
    pub(super) fn add(&mut self, ids: impl Iterator<Item = i128>) {
        for id in ids {
            self.skipped += 1;
            if self.skipped < self.stride {
                continue;
            }
            self.skipped = 0;
            self.ids.push(id);
            if self.ids.len() >= SAMPLE_IDS {
                let mut keep = false;
                self.ids.retain(|_| {
                    keep = !keep;
                    keep
                });
                self.stride *= 2;
            }
        }
    }

    /// Cuts `whole` into about `count` ranges with about as many rows each. An id is never in two ranges, so one id
    /// with very many rows makes a large range.
    pub(super) fn cut(mut self, whole: KeyRange, count: usize) -> RangeCuts {
        let KeyRange::Ids(min, max) = whole else { return RangeCuts::single(Some(whole)) };
        self.ids.sort_unstable();
        let quantile = |part: usize| self.ids.get(part * self.ids.len() / count.max(1)).copied();
        // A range ends before the first id of the next.
        let mut firsts: Vec<i128> = (1..count).filter_map(quantile).filter(|first| *first > min).collect();
        firsts.dedup();
        let starts = std::iter::once(min).chain(firsts.iter().copied());
        let ends = firsts.iter().map(|first| first - 1).chain([max]);
        RangeCuts { ranges: starts.zip(ends).map(|(from, to)| KeyRange::Ids(from, to)).collect(), starts: firsts }
    }
}

/// Adjoining ranges that cover all ids of a partition.
#[derive(Debug, Default)]
pub(super) struct RangeCuts {
    ranges: Vec<KeyRange>,
    /// The first id of each range but the first.
    starts: Vec<i128>,
}

impl RangeCuts {
    /// One range, or none where there are no ids.
    pub(super) fn single(range: Option<KeyRange>) -> Self {
        Self { ranges: range.into_iter().collect(), starts: Vec::new() }
    }

    /// How many ranges there are.
    pub(super) fn len(&self) -> usize {
        self.ranges.len()
    }

    /// The number of the range an id belongs to.
    pub(super) fn place(&self, id: Option<i128>) -> u128 {
        id.map_or(0, |id| self.starts.partition_point(|start| *start <= id) as u128)
    }

    /// The range of this number.
    pub(super) fn range(&self, number: u128) -> Option<KeyRange> {
        self.ranges.get(number as usize).copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_adjoin_cover_all_and_hold_what_is_placed_in_them(
            ids in proptest::collection::vec(-50i128..50, 1..400),
            count in 1usize..12,
        ) {
            let (mut sample, mut bounds) = (Sample::default(), IdBounds::default());
            sample.add(ids.iter().copied());
            ids.iter().for_each(|id| bounds.add(*id));
            let cuts = sample.cut(bounds.range().unwrap(), count);
            for pair in cuts.ranges.windows(2) {
                let [KeyRange::Ids(_, end), KeyRange::Ids(start, _)] = pair else { unreachable!() };
                prop_assert_eq!(end + 1, *start);
            }
            for id in ids {
                let Some(KeyRange::Ids(from, to)) = cuts.range(cuts.place(Some(id))) else { unreachable!() };
                prop_assert!((from..=to).contains(&id));
            }
        }
    }

    #[test]
    fn a_large_sample_stays_small_and_even() {
        let mut sample = Sample::default();
        sample.add(0..1_000_000);
        assert!(sample.ids.len() < SAMPLE_IDS);
        let cuts = sample.cut(KeyRange::Ids(0, 999_999), 10);
        assert_eq!(cuts.len(), 10);
        let Some(KeyRange::Ids(from, to)) = cuts.range(3) else { unreachable!() };
        assert!((90_000..=110_000).contains(&(to - from)), "{from}..{to}");
    }
}
