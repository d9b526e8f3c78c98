//! The kinds of metric: some count events as they happen, others are read for each scrape.

use std::sync::LazyLock;

use prometheus_client::{
    metrics::{
        counter,
        family::{Family, MetricConstructor},
        gauge, histogram,
    },
    registry::{Registry, Unit},
};

/// Description of a metric, for the documentation and for scrapes.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// Name as in a query.
    pub name: &'static str,
    pub kind: &'static str,
    pub labels: &'static [&'static str],
    help: &'static str,
}

impl About {
    pub const fn new(
        name: &'static str,
        kind: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self { name, kind, labels, help }
    }

    /// Help text without its full stop, which the encoder adds.
    pub fn help(&self) -> &'static str {
        self.help.trim().trim_end_matches('.')
    }

    /// Unit in the name, as Prometheus advises: <https://prometheus.io/docs/practices/naming/>.
    pub fn unit(&self) -> Option<&'static str> {
        ["seconds", "bytes"].into_iter().find(|unit| self.base().ends_with(unit))
    }

    fn base(&self) -> &'static str {
        self.name.strip_suffix("_total").unwrap_or(self.name)
    }

    /// Every label that a query can name.
    pub fn query_labels(&self) -> impl Iterator<Item = &'static str> {
        let le = (self.kind == "histogram").then_some("le");
        self.labels.iter().copied().chain(le)
    }

    /// Every name under which samples of the metric are found.
    pub fn query_names(&self) -> Vec<String> {
        match self.kind {
            "histogram" => ["_bucket", "_count", "_sum"].map(|end| format!("{}{end}", self.name)).into(),
            _ => vec![self.name.to_owned()],
        }
    }

    fn register(&self, registry: &mut Registry, metric: impl prometheus_client::registry::Metric) {
        match self.unit() {
            Some(unit) => {
                // The encoder appends the unit to the name.
                let name = self.base().trim_end_matches(unit).trim_end_matches('_');
                let unit = if unit == "bytes" { Unit::Bytes } else { Unit::Seconds };
                registry.register_with_unit(name, self.help(), unit, metric);
            }
            None => registry.register(self.base(), self.help(), metric),
        }
    }
}

/// A metric of any kind.
pub trait Described: Sync {
    fn about(&self) -> &About;

    /// Registers a metric that counts events. A metric that is read for each scrape registers nothing.
    fn register(&self, _registry: &mut Registry) {}
}

type Labels<const N: usize> = [(&'static str, String); N];

fn labels<const N: usize>(about: &About, values: [&str; N]) -> Labels<N> {
    std::array::from_fn(|index| (about.labels[index], values[index].to_owned()))
}

/// Counts events.
#[derive(Debug)]
pub struct Counter<const N: usize> {
    pub about: About,
    pub series: LazyLock<Family<Labels<N>, counter::Counter>>,
}

impl<const N: usize> Counter<N> {
    pub const fn new(name: &'static str, labels: &'static [&'static str; N], help: &'static str) -> Self {
        Self { about: About::new(name, "counter", labels, help), series: LazyLock::new(Family::default) }
    }

    pub fn inc(&self, values: [&str; N]) {
        self.series.get_or_create(&labels(&self.about, values)).inc();
    }

    /// Initialises a series with zero, because Prometheus sees no increase in a series that begins with 1.
    pub fn show(&self, values: [&str; N]) {
        drop(self.series.get_or_create(&labels(&self.about, values)));
    }
}

impl<const N: usize> Described for Counter<N> {
    fn about(&self) -> &About {
        &self.about
    }

    fn register(&self, registry: &mut Registry) {
        self.about.register(registry, self.series.clone());
    }
}

/// Upper limits of a histogram's buckets.
#[derive(Clone, Copy, Debug)]
pub struct Buckets(pub &'static [f64]);

impl MetricConstructor<histogram::Histogram> for Buckets {
    fn new_metric(&self) -> histogram::Histogram {
        histogram::Histogram::new(self.0.iter().copied())
    }
}

type Histograms<const N: usize> = Family<Labels<N>, histogram::Histogram, Buckets>;

/// Counts events by a value, such as a duration.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    pub about: About,
    series: LazyLock<Histograms<N>>,
}

impl<const N: usize> Histogram<N> {
    pub const fn new(
        name: &'static str,
        labels: &'static [&'static str; N],
        help: &'static str,
        series: fn() -> Histograms<N>,
    ) -> Self {
        Self { about: About::new(name, "histogram", labels, help), series: LazyLock::new(series) }
    }

    pub fn observe(&self, values: [&str; N], value: f64) {
        self.series.get_or_create(&labels(&self.about, values)).observe(value);
    }
}

impl<const N: usize> Described for Histogram<N> {
    fn about(&self) -> &About {
        &self.about
    }

    fn register(&self, registry: &mut Registry) {
        self.about.register(registry, self.series.clone());
    }
}

/// A value that is read for each scrape, into a registry of that scrape.
#[derive(Debug)]
pub struct Gauge<const N: usize> {
    pub about: About,
}

impl<const N: usize> Gauge<N> {
    pub const fn new(name: &'static str, labels: &'static [&'static str; N], help: &'static str) -> Self {
        Self { about: About::new(name, "gauge", labels, help) }
    }

    pub fn read<'a>(&self, registry: &mut Registry, values: impl IntoIterator<Item = ([&'a str; N], f64)>) {
        let family = Family::<Labels<N>, gauge::Gauge<f64, std::sync::atomic::AtomicU64>>::default();
        for (values, value) in values {
            family.get_or_create(&labels(&self.about, values)).set(value);
        }
        self.about.register(registry, family);
    }
}

impl<const N: usize> Described for Gauge<N> {
    fn about(&self) -> &About {
        &self.about
    }
}

/// A total that is counted elsewhere, and read for each scrape.
#[derive(Debug)]
pub struct Total {
    pub about: About,
}

impl Total {
    pub const fn new(name: &'static str, labels: &'static [&'static str; 0], help: &'static str) -> Self {
        Self { about: About::new(name, "counter", labels, help) }
    }

    pub fn read(&self, registry: &mut Registry, value: f64) {
        let counter = counter::Counter::<f64, std::sync::atomic::AtomicU64>::default();
        counter.inc_by(value);
        self.about.register(registry, counter);
    }
}

impl Described for Total {
    fn about(&self) -> &About {
        &self.about
    }
}
