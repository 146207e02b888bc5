//! The environment layer: the names of the batch pattern, and `PG2OS_` with any path in capitals.

use super::{
    check::{choices, takes},
    problem::{Problem, one_of},
    raw,
    tree::{Origin, Step, Tree},
};
use serde_json::Value;

/// Names that stand for one key.
const NAMES: [(&str, &str); 12] = [
    ("PG_HOST", "postgres.host"),
    ("PG_PORT", "postgres.port"),
    ("PG_DATABASE", "postgres.database"),
    ("PG_USER", "postgres.user"),
    ("PG_PASSWORD", "postgres.password"),
    ("OS_USER", "opensearch.username"),
    ("OS_PASSWORD", "opensearch.password"),
    ("PG2OS_TABLE", "tables.0.table"),
    ("PG2OS_INDEX", "tables.0.index"),
    ("PG2OS_ID", "tables.0.id"),
    ("PG2OS_ID_FORM", "tables.0.id_form"),
    ("PG2OS_WINDOW_COLUMN", "tables.0.window.column"),
];

/// `PG2OS_` names that are read elsewhere or belong to tests and tools.
fn is_elsewhere(name: &str) -> bool {
    let prefixes = ["PG2OS_TEST_", "PG2OS_LOG"];
    name == "PG2OS_CONFIG"
        || name == "PG2OS_DEV_HOME"
        || prefixes.iter().any(|prefix| name.starts_with(prefix))
}

/// Does Kubernetes set it for a Service that is called pg2os, pg or os ("service links")? Nobody typed those, so
/// they are neither values nor mistakes.
fn is_service_link(name: &str, value: &str) -> bool {
    let link = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    let per_port = name.split_once("_PORT_").is_some_and(|(_, rest)| {
        let (number, rest) = rest.split_once('_').unwrap_or((rest, ""));
        number.parse::<u16>().is_ok() && ["TCP", "UDP", "SCTP"].iter().any(|p| rest.starts_with(p))
    });
    per_port
        || name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || (name.ends_with("_PORT") && link)
}

/// Is it a name that the configuration reads?
pub(super) fn is_ours(name: &str) -> bool {
    let prefixed = ["PG2OS_", "PG_", "OS_", "DATE_"].iter().any(|prefix| name.starts_with(prefix));
    prefixed || name == "BATCH_DAYS"
}

/// The value of a variable; an empty one counts as none, as batch scripts leave them.
fn get<'a>(environment: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let (name, value) = environment.iter().find(|(n, _)| n == name)?;
    Some(value.as_str()).filter(|v| !v.is_empty() && !is_service_link(name, v))
}

/// Puts the environment over the file.
pub(super) fn apply(
    tree: &mut Tree,
    environment: &[(String, String)],
    has_tables: bool,
    problems: &mut Vec<Problem>,
) {
    for (name, path) in NAMES {
        let Some(value) = get(environment, name) else { continue };
        if has_tables && path.starts_with("tables.") {
            let what = "describes a table, but the file has tables already";
            problems.push(Problem::new(name, what, "unset it and write it in the file"));
        } else if let Some((steps, node)) = path_of(&path.replace('.', "__")) {
            tree.set(&steps, value_for(node, value), &Origin::Environment(name.to_owned()));
        }
    }
    apply_url(tree, environment, problems);
    for (name, value) in environment {
        let Some(path) = name.strip_prefix("PG2OS_") else { continue };
        let known = is_elsewhere(name) || NAMES.iter().any(|(n, _)| n == name);
        if known || is_service_link(name, value) {
            continue;
        }
        match path_of(&path.to_lowercase()) {
            Some((steps, node)) if !value.is_empty() => {
                tree.set(&steps, value_for(node, value), &Origin::Environment(name.clone()));
            }
            Some(_) => {}
            None => {
                let known = known_names();
                let cure = if let Some(name) = super::problem::nearest(name, known.iter().map(String::as_str))
                {
                    one_of(name, std::iter::once(name.to_owned()))
                } else {
                    "name a key by its path, as PG2OS_BULK__BYTES, or unset it".to_owned()
                };
                problems.push(Problem::new(name, "names no key of the configuration", cure));
            }
        }
    }
}

/// OS_SCHEME, OS_HOST and OS_PORT make a URL.
fn apply_url(tree: &mut Tree, environment: &[(String, String)], problems: &mut Vec<Problem>) {
    let Some(hosts) = get(environment, "OS_HOST") else {
        for name in ["OS_PORT", "OS_SCHEME"].into_iter().filter(|name| get(environment, name).is_some()) {
            let cure = "set OS_HOST too, or unset it and give opensearch.url";
            problems.push(Problem::new(name, "is set without OS_HOST", cure));
        }
        return;
    };
    if hosts.contains('/') {
        let cure = "give the host alone, with OS_SCHEME and OS_PORT, or set PG2OS_OPENSEARCH__URL";
        problems.push(Problem::new("OS_HOST", "is not a host", cure));
        return;
    }
    let scheme = get(environment, "OS_SCHEME").unwrap_or("http");
    let port = get(environment, "OS_PORT").unwrap_or("9200");
    let url = |host: &str| {
        let host = host.trim();
        let bare_v6 = host.contains(':') && !host.starts_with('[');
        let host = if bare_v6 { format!("[{host}]") } else { host.to_owned() };
        Value::from(format!("{scheme}://{host}:{port}"))
    };
    let mut urls: Vec<Value> = hosts.split(',').map(url).collect();
    let value = if urls.len() == 1 { urls.remove(0) } else { Value::Array(urls) };
    let path = ["opensearch", "url"].map(|key| Step::Key(key.to_owned()));
    tree.set(&path, value, &Origin::Environment("OS_HOST".to_owned()));
}

/// DATE_FROM, DATE_TO and BATCH_DAYS fill what the windows of the tables leave open.
pub(super) fn apply_dates(tree: &mut Tree, environment: &[(String, String)], problems: &mut Vec<Problem>) {
    let count = tree.value["tables"].as_array().map_or(0, Vec::len);
    for (name, key) in [("DATE_FROM", "from"), ("DATE_TO", "to"), ("BATCH_DAYS", "days")] {
        let Some(value) = get(environment, name) else { continue };
        for i in 0..count {
            let window = &tree.value["tables"][i]["window"];
            if window["column"].is_null() {
                // Days only tune, but without its bounds a window would hold more than was asked for.
                if key != "days" {
                    problems.push(Problem::new(
                        format!("tables[{i}].window"),
                        format!("{name} is set, but there is no column that it bounds"),
                        "set window.column (--window-column), or unset it",
                    ));
                }
                continue;
            }
            // Ranges of ids have neither dates nor days.
            if window[key].is_null() && window["rows"].is_null() {
                let path = [Step::Key("tables".into()), Step::Item(i), Step::Key("window".into())];
                let path: Vec<Step> = path.into_iter().chain([Step::Key(key.into())]).collect();
                tree.set(&path, Value::from(value), &Origin::Environment(name.to_owned()));
            }
        }
    }
}

/// The steps of a path like `bulk__bytes`, and the schema of the scalar there.
fn path_of(path: &str) -> Option<(Vec<Step>, &'static Value)> {
    let mut node = raw::schema();
    let mut steps = Vec::new();
    for part in path.split("__") {
        let choices = choices(node);
        if let Some(inner) = choices.iter().find_map(|choice| choice["properties"].get(part)) {
            node = inner;
            steps.push(Step::Key(part.to_owned()));
        } else {
            node = choices.iter().find(|choice| takes(choice, "array"))?.get("items")?;
            steps.push(Step::Item(part.parse().ok()?));
        }
    }
    is_scalar(node).then_some((steps, node))
}

fn is_scalar(node: &'static Value) -> bool {
    let kinds = ["string", "integer", "boolean"];
    choices(node).iter().any(|choice| kinds.iter().any(|kind| takes(choice, kind)))
}

/// A value for a key: where one name or a list of them may stand, commas part them. Numbers stay text: the check
/// reads them as what is expected there.
fn value_for(node: &'static Value, text: &str) -> Value {
    let list = text.contains(',') && choices(node).iter().any(|choice| takes(choice, "array"));
    if list { text.split(',').map(|part| Value::from(part.trim())).collect() } else { Value::from(text) }
}

/// All names of scalars outside of lists.
fn known_names() -> Vec<String> {
    fn walk(prefix: &str, node: &'static Value, names: &mut Vec<String>) {
        for (key, inner) in
            choices(node).into_iter().filter_map(|choice| choice["properties"].as_object()).flatten()
        {
            let name = format!("{prefix}{}", key.to_uppercase());
            if is_scalar(inner) {
                names.push(name.clone());
            }
            walk(&format!("{name}__"), inner, names);
        }
    }
    let mut names = Vec::new();
    walk("PG2OS_", raw::schema(), &mut names);
    names
}
