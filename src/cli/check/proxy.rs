//! Says how providers are reached.

use voicegate_providers::proxy::Proxy;

use super::line::Line;

pub fn check(proxy: &Proxy) -> Vec<Line> {
    let unusable = proxy.unusable_variables().into_iter().map(|name| {
        Line::note(format!(
            "server.proxy: {name} is not the URL of an HTTP proxy, such as http://proxy.example:3128, so it has no effect"
        ))
    });
    let way = Line::ok(format!("server.proxy: {proxy}"));
    [way].into_iter().chain(unusable).collect()
}
