//! Selects the sources to produce from all combinations.

use super::table::Table;

/// Row numbers: format, content, layout, rate, length.
pub type Choice = [usize; 5];

/// Sources that contain every compatible pair of values or, after fewer rounds, as many pairs as possible. Each round
/// contains every format once.
pub fn choose(table: &Table, rounds: usize) -> Vec<Choice> {
    let layouts: Vec<u16> = table.layout.values().map(|layout| layout.channels).collect();
    let possible: Vec<Vec<Choice>> = (0..table.format.len())
        .map(|format| {
            let mut choices = Vec::new();
            for content in 0..table.content.len() {
                for (layout, &channels) in layouts.iter().enumerate() {
                    for (rate, &hertz) in table.rates.iter().enumerate() {
                        if table.format[format].takes(channels, hertz) {
                            let lengths = 0..table.lengths.len();
                            choices.extend(lengths.map(|length| [format, content, layout, rate, length]));
                        }
                    }
                }
            }
            choices
        })
        .collect();

    let widest = table.format.len().max(table.rates.len());
    let mut met = Met { widest, pairs: vec![false; (5 * widest).pow(2)] };
    let mut chosen = Vec::new();
    let mut open: Vec<usize> = (0..table.format.len()).collect();
    for _ in 0..rounds {
        if open.is_empty() {
            break;
        }
        open.retain(|&format| {
            // Among equally good candidates the choice rotates, because otherwise values would cluster.
            let from = chosen.len() * 7919 % possible[format].len();
            let (early, late) = possible[format].split_at(from);
            let best = late.iter().chain(early).max_by_key(|choice| met.gain(choice)).unwrap();
            if met.gain(best) == 0 {
                return false;
            }
            met.add(best);
            chosen.push(*best);
            true
        });
    }
    chosen
}

/// Pairs of values of two columns that occurred.
struct Met {
    widest: usize,
    pairs: Vec<bool>,
}

impl Met {
    fn places(&self, choice: &Choice) -> impl Iterator<Item = usize> + use<> {
        let (widest, choice) = (self.widest, *choice);
        let value = move |column: usize| column * widest + choice[column];
        (0..5).flat_map(move |a| (0..a).map(move |b| value(a) * 5 * widest + value(b)))
    }

    fn gain(&self, choice: &Choice) -> usize {
        self.places(choice).filter(|&place| !self.pairs[place]).count()
    }

    fn add(&mut self, choice: &Choice) {
        for place in self.places(choice) {
            self.pairs[place] = true;
        }
    }
}
