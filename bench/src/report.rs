//! Figures, as a table while they come and as JSON at the end.

use serde_json::{Map, Value, json};

#[derive(Default)]
pub struct Report {
    parts: Map<String, Value>,
}

impl Report {
    /// Begins a part of the table.
    pub fn part(&self, title: &str) {
        println!("\n{title}");
    }

    /// One figure: what it is, how much, and of what.
    pub fn figure(&mut self, part: &str, name: &str, value: f64, unit: &str) {
        let digits = if value.abs() >= 100.0 { 0 } else { 2 };
        println!("  {name:<72} {value:>9.digits$} {unit}");
        let figures = self.parts.entry(part).or_insert_with(|| json!([]));
        if let Value::Array(figures) = figures {
            figures.push(json!({ "name": name, "value": value, "unit": unit }));
        }
    }

    pub fn to_json(&self) -> String {
        format!("{:#}\n", Value::Object(self.parts.clone()))
    }
}

/// The value below which `share` of them are. Sorts them.
pub fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values.get((last as f64 * share).round() as usize).copied().unwrap_or(f64::NAN)
}
