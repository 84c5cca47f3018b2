//! A function as it is named: `redact`, `redact:live`, or its ARN.

/// A function's name, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    pub name: String,
    /// A version or an alias.
    pub qualifier: Option<String>,
    /// Where it is, if that was said.
    pub home: Option<Home>,
}

/// The fields of an ARN before the function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    pub partition: String,
    pub region: String,
    pub account: String,
}

/// Characters of a function's name at the most (API reference of Lambda, `FunctionName`).
const NAME_CHARS_MAX: usize = 64;
/// Characters of a qualifier at the most (`Qualifier`).
const QUALIFIER_CHARS_MAX: usize = 128;

impl Function {
    /// Takes a name or an ARN apart; an error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Function, String> {
        if !text.starts_with("arn:") {
            let (name, qualifier) = match text.split_once(':') {
                Some((name, qualifier)) => (name, Some(qualifier)),
                None => (text, None),
            };
            return Function::of(name, qualifier, None);
        }
        let fields: Vec<&str> = text.split(':').collect();
        let (partition, region, account, name, qualifier) = match fields[..] {
            ["arn", partition, "lambda", region, account, "function", name] => (partition, region, account, name, None),
            ["arn", partition, "lambda", region, account, "function", name, qualifier] => {
                (partition, region, account, name, Some(qualifier))
            }
            _ => return Err(format!("`{text}` is not the ARN of a function")),
        };
        let is_word = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !is_word(partition) || !is_word(region) {
            return Err(format!("`{text}` is not the ARN of a function: its partition or region is wrong"));
        }
        if account.len() != 12 || !account.bytes().all(|b| b.is_ascii_digit()) {
            return Err(format!("`{text}` is not the ARN of a function: an account has 12 digits, found `{account}`"));
        }
        let home = Home { partition: partition.into(), region: region.into(), account: account.into() };
        Function::of(name, qualifier, Some(home))
    }

    fn of(name: &str, qualifier: Option<&str>, home: Option<Home>) -> Result<Function, String> {
        if !is_made_of(name, b"-_", NAME_CHARS_MAX) {
            return Err(format!(
                "a function's name is 1 to {NAME_CHARS_MAX} of a-z, A-Z, 0-9, - and _, found `{name}`"
            ));
        }
        if let Some(qualifier) = qualifier {
            check_qualifier(qualifier)?;
        }
        Ok(Function { name: name.to_owned(), qualifier: qualifier.map(str::to_owned), home })
    }

    /// As the API wants it in the path: by its ARN if that is known, which reaches functions of other accounts.
    pub fn in_path(&self) -> String {
        match &self.home {
            Some(home) => home.arn(&self.name),
            None => self.name.clone(),
        }
    }
}

impl Home {
    /// The ARN of a function here.
    pub fn arn(&self, name: &str) -> String {
        let Home { partition, region, account } = self;
        format!("arn:{partition}:lambda:{region}:{account}:function:{name}")
    }
}

/// Whether this may be a version or an alias; an error says what is wrong.
pub fn check_qualifier(text: &str) -> Result<(), String> {
    match is_made_of(text, b"-_$", QUALIFIER_CHARS_MAX) {
        true => Ok(()),
        false => Err(format!(
            "a version or alias is 1 to {QUALIFIER_CHARS_MAX} of a-z, A-Z, 0-9, -, _ and $, found `{text}`"
        )),
    }
}

fn is_made_of(text: &str, more: &[u8], chars_max: usize) -> bool {
    (1..=chars_max).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || more.contains(&b))
}

/// The partition of a region: `aws` but for China and the US government.
pub fn partition_of(region: &str) -> &'static str {
    match region {
        region if region.starts_with("cn-") => "aws-cn",
        region if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    }
}

/// Where AWS serves the API in a region.
pub fn endpoint_of(region: &str) -> String {
    let domain = if partition_of(region) == "aws-cn" { "amazonaws.com.cn" } else { "amazonaws.com" };
    format!("https://lambda.{region}.{domain}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_arns_are_taken_apart() {
        let plain = Function::parse("redact").unwrap();
        assert_eq!(plain, Function { name: "redact".into(), qualifier: None, home: None });
        assert_eq!(Function::parse("re-dact_2:live").unwrap().qualifier.as_deref(), Some("live"));
        let arn = "arn:aws-us-gov:lambda:us-gov-west-1:123456789012:function:redact";
        let of_arn = Function::parse(&format!("{arn}:$LATEST")).unwrap();
        assert_eq!((of_arn.name.as_str(), of_arn.qualifier.as_deref()), ("redact", Some("$LATEST")));
        assert_eq!(of_arn.home.as_ref().unwrap().region, "us-gov-west-1");
        assert_eq!(of_arn.in_path(), arn);
        assert_eq!(plain.in_path(), "redact");
    }

    #[test]
    fn what_names_no_function_is_refused() {
        for wrong in [
            "",
            "a b",
            "a/b",
            "a:",
            "a:b:c",
            "arn:aws:s3:::bucket",
            "arn:aws:lambda:eu-central-1:123456789012:layer:x",
            "arn:aws:lambda:eu-central-1:1234:function:x",
            "arn:aws:lambda::123456789012:function:x",
            "arn:aws:lambda:eu-central-1:123456789012:function:",
            "arn:aws:lambda:eu-central-1:123456789012:function:a:b:c",
            &"x".repeat(65),
        ] {
            assert!(Function::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_api_lies_in_the_regions_domain() {
        assert_eq!(endpoint_of("eu-central-1"), "https://lambda.eu-central-1.amazonaws.com");
        assert_eq!(endpoint_of("cn-north-1"), "https://lambda.cn-north-1.amazonaws.com.cn");
        assert_eq!(partition_of("us-gov-east-1"), "aws-us-gov");
    }
}
