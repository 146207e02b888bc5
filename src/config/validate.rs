//! From what is typed to what is meant: units, names and derived defaults, with every problem collected.
//!
//! Derived defaults are written back, so that `pg2os config` can print them.

use super::{
    Backfill, Bookmark, Bulk, Config, Credential, Limits, OpenSearch, Postgres, Tls, TlsMode, names,
    problem::Problem,
    raw::{self, BookmarkOrOff, OneOrMany, Quantity, Raw},
    tables, units,
};
use reqwest::Url;
use secrecy::SecretString;
use std::{net::SocketAddr, ops::RangeInclusive, path::PathBuf, time::Duration};

/// Validates everything. The configuration is good only if there are no problems.
pub(super) fn validate(raw: &mut Raw) -> (Config, Vec<Problem>) {
    let mut v = Findings::default();
    v.name(&raw.name);
    let slot = raw.postgres.slot.get_or_insert_with(|| names::default_slot(&raw.name)).clone();
    raw.postgres.publication.get_or_insert_with(|| OneOrMany::One(slot.clone()));
    v.slot("postgres.slot", &slot);
    let bookmark = bookmark(&mut v, &mut raw.bookmark, &slot);
    let http = raw.http.as_deref().and_then(|text| {
        let parsed = text.parse::<SocketAddr>();
        v.fine("http", parsed.map_err(|_| format!("{text:?} is not an address")), "write it as 0.0.0.0:8080")
    });
    let mut config = Config {
        name: raw.name.clone(),
        on_gap: raw.on_gap,
        http,
        postgres: postgres(&mut v, &mut raw.postgres, slot),
        opensearch: opensearch(&mut v, &mut raw.opensearch),
        bulk: bulk(&mut v, &raw.bulk),
        backfill: backfill(&mut v, &raw.backfill),
        limits: limits(&mut v, &raw.limits),
        bookmark,
        tables: vec![],
        wildcards: vec![],
    };
    (config.tables, config.wildcards) = tables::validate(&mut v, raw);
    config.postgres.append_publication = append_publication(&mut v, &config);
    (config, v.problems)
}

fn bookmark(v: &mut Findings, raw: &mut BookmarkOrOff, replication_slot: &str) -> Option<Bookmark> {
    let BookmarkOrOff::Kept(raw) = raw else { return None };
    let slot = raw.slot.get_or_insert_with(|| format!("{replication_slot}_bookmark")).clone();
    v.slot("bookmark.slot", &slot);
    if slot == replication_slot {
        v.add("bookmark.slot", "is the replication slot", "name another one, or leave it out");
    }
    Some(Bookmark {
        slot,
        keep: v.size("bookmark.keep", &raw.keep, 0..=u64::MAX),
        keep_time: v.duration("bookmark.keep_time", &raw.keep_time, ANY),
    })
}

/// Any duration.
const ANY: RangeInclusive<Duration> = Duration::ZERO..=Duration::MAX;

/// The problems so far, and the checks that many keys share.
#[derive(Default)]
pub(super) struct Findings {
    problems: Vec<Problem>,
}

impl Findings {
    /// Notes a problem.
    pub(super) fn add(&mut self, place: impl Into<String>, what: impl Into<String>, cure: impl Into<String>) {
        self.problems.push(Problem::new(place, what, cure));
    }

    /// A value, or `None` after its refusal was noted.
    pub(super) fn fine<T>(&mut self, place: &str, checked: Result<T, String>, cure: &str) -> Option<T> {
        checked.map_err(|what| self.add(place, what, cure)).ok()
    }

    fn required<T: Default>(&mut self, place: &str, value: Option<T>, cure: &str) -> T {
        value.unwrap_or_else(|| {
            self.add(place, "is missing", cure);
            T::default()
        })
    }

    fn name(&mut self, name: &str) {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
        // 48 leave room for the prefix and suffix of the slots within PostgreSQL's 63.
        if !(1..=48).contains(&name.len()) || !name.bytes().all(plain) {
            let cure = "use 1 to 48 of a-z, 0-9, _ and -: it names slots and documents";
            self.add("name", format!("{name:?} is not a pipeline name"), cure);
        }
    }

    fn slot(&mut self, place: &str, name: &str) {
        if !names::is_slot(name) {
            self.add(place, format!("{name:?} is not a slot name"), "use 1 to 63 of a-z, 0-9 and _");
        }
    }

    fn size(&mut self, place: &str, value: &Quantity, range: RangeInclusive<u64>) -> u64 {
        let parsed = match value {
            Quantity::Number(bytes) => Ok(*bytes),
            Quantity::Text(text) => units::size(text),
        };
        let Some(size) = self.fine(place, parsed, "5MB is decimal, 5MiB binary, a plain number bytes") else {
            return *range.start();
        };
        if !range.contains(&size) {
            let cure = format!("say {} to {}", decimal(*range.start()), decimal(*range.end()));
            self.add(place, format!("{value} is out of range"), cure);
        }
        size
    }

    fn duration(&mut self, place: &str, value: &Quantity, range: RangeInclusive<Duration>) -> Duration {
        let parsed = units::duration(&value.to_string());
        let Some(time) = self.fine(place, parsed, "give the unit: ms, s, m, h or d") else {
            return *range.start();
        };
        if !range.contains(&time) {
            let cure = format!("say {:?} to {:?}", range.start(), range.end());
            self.add(place, format!("{value} is out of range"), cure);
        }
        time
    }

    /// One credential of its two keys.
    fn credential(
        &mut self,
        section: &str,
        key: &str,
        value: Option<&String>,
        file: Option<&String>,
    ) -> Option<Credential> {
        if value.is_some() && file.is_some() {
            let what = format!("is set beside {key}_file");
            self.add(format!("{section}.{key}"), what, "keep one of the two, better the file");
        }
        let file = file.map(|path| Credential::File(PathBuf::from(path)));
        file.or_else(|| value.map(|v| Credential::Value(SecretString::from(v.as_str()))))
    }

    fn tls(&mut self, place: &str, tls: &raw::Tls, mode: TlsMode) -> Tls {
        if tls.cert_file.is_some() != tls.key_file.is_some() {
            let missing = if tls.cert_file.is_some() { "key_file" } else { "cert_file" };
            let cure = "a client certificate needs cert_file and key_file";
            self.add(format!("{place}.{missing}"), "is missing", cure);
        }
        let path = |file: &Option<String>| file.as_ref().map(PathBuf::from);
        Tls {
            mode,
            ca_file: path(&tls.ca_file),
            cert_file: path(&tls.cert_file),
            key_file: path(&tls.key_file),
        }
    }
}

/// A limit as it is written in the documentation.
fn decimal(bytes: u64) -> String {
    match bytes {
        u64::MAX => "any".to_owned(),
        _ if bytes >= 1_000_000 && bytes.is_multiple_of(1_000_000) => format!("{}MB", bytes / 1_000_000),
        _ if bytes >= 1_000 && bytes.is_multiple_of(1_000) => format!("{}kB", bytes / 1_000),
        _ => bytes.to_string(),
    }
}

fn postgres(v: &mut Findings, raw: &mut raw::Postgres, slot: String) -> Postgres {
    let hosts = raw.host.as_ref().map(OneOrMany::list).filter(|hosts| !hosts.is_empty());
    let hosts = v.required("postgres.host", hosts, "name the server (PG_HOST)");
    for host in &hosts {
        if host.trim().is_empty() || host.contains("//") || host.contains(char::is_whitespace) {
            v.add("postgres.host", format!("{host:?} is not a host"), "give a name or address alone");
        } else if host.matches(':').count() == 1 {
            v.add("postgres.host", "has a port in it", "put the port into postgres.port (PG_PORT)");
        }
    }
    if raw.port == 0 {
        v.add("postgres.port", "0 is out of range", "say 1 to 65535");
    }
    let database = raw.database.clone().filter(|name| !name.is_empty());
    let user = v.credential("postgres", "user", raw.user.as_ref(), raw.user_file.as_ref());
    let publications = raw.publication.as_ref().map(OneOrMany::list).unwrap_or_default();
    if publications.is_empty() {
        v.add("postgres.publication", "is an empty list", "name a publication, or leave it out");
    }
    for (i, name) in publications.iter().enumerate() {
        if !(1..=63).contains(&name.len()) || name.contains('\0') {
            let what = format!("{name:?} is not a publication name");
            v.add("postgres.publication", what, "use 1 to 63 bytes");
        } else if publications[..i].contains(name) {
            v.add("postgres.publication", format!("{name:?} is named twice"), "name it once");
        }
    }
    if let Some(host) = &raw.backfill_host
        && (host.trim().is_empty() || host.contains("//") || host.contains(char::is_whitespace))
    {
        v.add("postgres.backfill_host", format!("{host:?} is not a host"), "give a name or address alone");
    }
    let mode = *raw.tls.mode.get_or_insert(TlsMode::Prefer);
    Postgres {
        hosts,
        port: raw.port,
        database: v.required("postgres.database", database, "name the database (PG_DATABASE)"),
        user: user.unwrap_or_else(|| {
            v.add("postgres.user", "is missing", "name a role with REPLICATION and SELECT (PG_USER)");
            Credential::Value(SecretString::default())
        }),
        password: v.credential("postgres", "password", raw.password.as_ref(), raw.password_file.as_ref()),
        tls: v.tls("postgres.tls", &raw.tls, mode),
        slot,
        publications,
        append_publication: None,
        backfill_host: raw.backfill_host.clone(),
    }
}

/// `append_only` tables go into a publication of their own beside the single one that pg2os may make; several are an
/// administrator's, who spreads the tables.
fn append_publication(v: &mut Findings, config: &Config) -> Option<String> {
    let settings = config.tables.iter().chain(config.wildcards.iter().map(|w| &w.settings));
    let [publication] = &config.postgres.publications[..] else { return None };
    settings.into_iter().find(|table| table.append_only)?;
    let name = format!("{publication}_append");
    if name.len() > 63 {
        let cure = "choose a name of at most 56 bytes";
        v.add("postgres.publication", format!("{name:?}, for append_only tables, is too long"), cure);
    }
    Some(name)
}

fn opensearch(v: &mut Findings, raw: &mut raw::OpenSearch) -> OpenSearch {
    let urls = raw.url.as_ref().map(OneOrMany::list).filter(|urls| !urls.is_empty());
    let urls = v.required("opensearch.url", urls, "give its URL, as http://localhost:9200 (OS_HOST)");
    let urls: Vec<Url> = urls.iter().filter_map(|text| url(v, "opensearch.url", text)).collect();
    let secure = urls.iter().any(|url| url.scheme() == "https");
    if secure && urls.iter().any(|url| url.scheme() == "http") {
        v.add("opensearch.url", "mixes http and https", "use one scheme for all nodes");
    }
    let given = raw.tls.mode;
    let mode = *raw.tls.mode.get_or_insert(if secure { TlsMode::VerifyFull } else { TlsMode::Disable });
    if let Some(given) = given.filter(|_| !urls.is_empty()) {
        let (what, cure) = match (secure, given) {
            (true, TlsMode::Disable) => {
                ("is disable, but the URL is https", "use http, or leave the mode out")
            }
            (true, TlsMode::Prefer) => {
                ("cannot be prefer: the URL decides", "say require, verify-ca or verify-full")
            }
            (false, mode) if mode != TlsMode::Disable => ("asks for TLS, but the URL is http", "use https"),
            _ => ("", ""),
        };
        if !what.is_empty() {
            v.add("opensearch.tls.mode", what, cure);
        }
    }
    let is_proxy = |url: Url| matches!(url.scheme(), "http" | "https") && url.has_host();
    if raw.proxy.as_ref().is_some_and(|proxy| !Url::parse(proxy).is_ok_and(is_proxy)) {
        v.add("opensearch.proxy", "is not a URL", "write it as http://proxy:3128");
    }
    for (key, name) in [("state_index", &raw.state_index), ("dead_letter_index", &raw.dead_letter_index)] {
        let place = format!("opensearch.{key}");
        v.fine(&place, names::index_name(name), &format!("set {place} to a name OpenSearch takes"));
    }
    if raw.state_index == raw.dead_letter_index {
        v.add("opensearch.dead_letter_index", "is the state index", "name another one");
    }
    let username = v.credential("opensearch", "username", raw.username.as_ref(), raw.username_file.as_ref());
    let password = v.credential("opensearch", "password", raw.password.as_ref(), raw.password_file.as_ref());
    if password.is_some() && username.is_none() {
        v.add("opensearch.username", "is missing beside a password", "name the user (OS_USER)");
    }
    OpenSearch {
        urls: urls.iter().map(|url| url.as_str().trim_end_matches('/').to_owned()).collect(),
        username,
        password,
        tls: v.tls("opensearch.tls", &raw.tls, mode),
        proxy: raw.proxy.clone(),
        state_index: raw.state_index.clone(),
        dead_letter_index: raw.dead_letter_index.clone(),
    }
}

/// A base URL; a refused one is not shown, as it may hold a password.
fn url(v: &mut Findings, place: &str, text: &str) -> Option<Url> {
    let url = Url::parse(text).ok().filter(Url::has_host);
    let Some(url) = url.filter(|url| matches!(url.scheme(), "http" | "https")) else {
        v.add(place, "is not an http or https URL", "write it as http://localhost:9200");
        return None;
    };
    if !url.username().is_empty() || url.password().is_some() {
        let cure = "move them to opensearch.username and opensearch.password_file (OS_USER, OS_PASSWORD)";
        v.add(place, "contains a user name or password", cure);
    } else if url.query().is_some() || url.fragment().is_some() {
        v.add(place, "has more than scheme, host, port and path", "cut it off before ? or #");
    }
    Some(url)
}

fn bulk(v: &mut Findings, raw: &raw::Bulk) -> Bulk {
    const MB: u64 = 1_000_000;
    let lanes = raw.lanes.to_string();
    let lanes = if lanes == "auto" {
        None
    } else {
        let lanes = lanes.parse().ok().filter(|lanes| (1..=64).contains(lanes));
        v.fine("bulk.lanes", lanes.ok_or(format!("{} is out of range", raw.lanes)), "say auto, or 1 to 64")
    };
    let bytes = v.size("bulk.bytes", &raw.bytes, 64_000..=100 * MB);
    // The ceiling is what OpenSearch accepts as one request (http.max_content_length).
    let largest = v.size("bulk.max_document_bytes", &raw.max_document_bytes, 1_000..=100 * MB);
    let minute = Duration::from_secs(60);
    Bulk {
        lanes,
        bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
        flush_after: v.duration("bulk.flush_after", &raw.flush_after, Duration::ZERO..=minute),
        max_document_bytes: usize::try_from(largest).unwrap_or(usize::MAX),
    }
}

fn backfill(v: &mut Findings, raw: &raw::Backfill) -> Backfill {
    let parallel = usize::try_from(raw.parallel).unwrap_or(usize::MAX);
    if !(1..=64).contains(&parallel) {
        v.add("backfill.parallel", format!("{parallel} is out of range"), "say 1 to 64");
    }
    let unlimited = matches!(&raw.rate, Quantity::Text(text) if text == "unlimited");
    let rate = (!unlimited).then(|| v.size("backfill.rate", &raw.rate, 1_000..=u64::MAX));
    let day = Duration::from_secs(86_400);
    Backfill {
        parallel,
        rate,
        order: raw.order,
        window_bytes: v.size("backfill.window_bytes", &raw.window_bytes, 1_000..=u64::MAX),
        window_time: v.duration("backfill.window_time", &raw.window_time, Duration::from_millis(100)..=day),
        force_merge: raw.force_merge,
    }
}

fn limits(v: &mut Findings, raw: &raw::Limits) -> Limits {
    let second = Duration::from_secs(1);
    let day = Duration::from_secs(86_400);
    let horizon = &raw.late_request_horizon;
    Limits {
        retained_wal: v.size("limits.retained_wal", &raw.retained_wal, 1..=u64::MAX),
        on_retained_wal: raw.on_retained_wal,
        standby_lag: v.duration("limits.standby_lag", &raw.standby_lag, ANY),
        dead_letters: raw.dead_letters,
        late_request_horizon: v.duration("limits.late_request_horizon", horizon, second..=day),
    }
}
