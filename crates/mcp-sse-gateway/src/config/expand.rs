//! Expands `${NAME}` in a setting to the value of an environment variable, so that secrets need not be in files and on
//! command lines.

/// Expands `${NAME}`, `${NAME:-default}`, and `${env:NAME}`, which some clients use.
pub(crate) fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        out.push_str(&rest[..start]);
        let inside = &rest[start + 2..];
        let Some(end) = inside.find('}') else {
            return Err(format!("{text:?} has ${{ without a closing }}; expected ${{NAME}}"));
        };
        let (name, default) = match inside[..end].split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (&inside[..end], None),
        };
        let name = name.strip_prefix("env:").unwrap_or(name);
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return Err(format!(
                "${{{name}}} is not supported here; expected the name of an environment variable, as in ${{NAME}}"
            ));
        }
        let value = lookup(name).or_else(|| default.map(str::to_owned));
        out.push_str(&value.ok_or_else(|| format!("the environment variable {name} is not set"))?);
        rest = &inside[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

/// Expands with the environment of this process.
pub(crate) fn from_environment(text: &str) -> Result<String, String> {
    expand(text, |name| std::env::var(name).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(text: &str) -> Result<String, String> {
        expand(text, |name| (name == "TOKEN").then(|| "s3".to_owned()))
    }

    #[test]
    fn variables_are_put_in_and_all_else_stays() {
        assert_eq!(with("plain $TOKEN $").unwrap(), "plain $TOKEN $");
        assert_eq!(with("Bearer ${TOKEN}!").unwrap(), "Bearer s3!");
        assert_eq!(with("${env:TOKEN}${TOKEN}").unwrap(), "s3s3");
        assert_eq!(with("${OTHER:-x:-y}").unwrap(), "x:-y");
        assert_eq!(with("${OTHER:-}").unwrap(), "");
    }

    #[test]
    fn what_is_not_there_is_said() {
        assert!(with("${OTHER}").unwrap_err().contains("OTHER is not set"));
        assert!(with("${input:key}").unwrap_err().contains("${input:key} is not supported"));
        assert!(with("a ${TOKEN").unwrap_err().contains("without a closing }"));
    }
}
