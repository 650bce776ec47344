//! `inspect`, `container inspect`, `image inspect`.

use engine::{Engine, ErrorKind};
use serde_json::Value;

use crate::args::{ContainerInspectArgs, ImageInspectArgs, InspectArgs};
use crate::error::{FAILED, Failure, Outcome};
use crate::output::template;
use crate::output::{self, json};

/// `davit inspect`: a container of that name, else an image.
pub(crate) fn inspect(engine: &Engine, args: &InspectArgs) -> Outcome {
    let mut names = args.names.clone();
    if args.latest {
        names.push(engine.containers().latest()?);
    }
    print(&args.format, &names, |name| match args.r#type.as_str() {
        "container" => container(engine, name, args.size),
        "image" => image(engine, name, None),
        "volume" => super::volume::described(engine, name),
        _ => {
            let or_else = |result: Result<Value, engine::Error>, next: &dyn Fn() -> _| match result {
                Err(error) if error.kind() == ErrorKind::NotFound => next(),
                other => other,
            };
            let found = container(engine, name, args.size);
            let found = or_else(found, &|| image(engine, name, None));
            let found = or_else(found, &|| super::volume::described(engine, name));
            or_else(found, &|| Err(engine::Error::NotFound { what: "object", name: name.to_owned() }))
        }
    })
}

/// `davit container inspect`
pub(crate) fn containers(engine: &Engine, args: &ContainerInspectArgs) -> Outcome {
    let mut names = args.containers.clone();
    if args.latest {
        names.push(engine.containers().latest()?);
    }
    print(&args.format, &names, |name| container(engine, name, args.size))
}

/// `davit image inspect`
pub(crate) fn images(engine: &Engine, args: &ImageInspectArgs) -> Outcome {
    print(&args.format, &args.images, |name| image(engine, name, args.platform.as_deref()))
}

fn container(engine: &Engine, name: &str, size: bool) -> Result<Value, engine::Error> {
    let report = engine.containers().inspect(name, size)?;
    Ok(serde_json::to_value(report).expect("reports are plain data"))
}

fn image(engine: &Engine, name: &str, platform: Option<&str>) -> Result<Value, engine::Error> {
    let report = engine.images().inspect(name, platform)?;
    Ok(serde_json::to_value(report).expect("reports are plain data"))
}

/// Prints what was found, and says what was not; the exit code is 125 if anything is missing.
pub(super) fn print(
    format: &str,
    names: &[String],
    get: impl Fn(&str) -> Result<Value, engine::Error>,
) -> Outcome {
    let mut found = Vec::new();
    let mut code = 0;
    let mut failures = Vec::new();
    for name in names {
        match get(name) {
            Ok(value) => found.push(value),
            Err(error) => {
                code = FAILED;
                failures.push(Failure::from(error));
            }
        }
    }
    if format == "json" {
        output::line(&json::pretty(&found).map_err(template::Error::from)?);
    } else {
        let template = template::compile(format)?;
        for value in &found {
            output::line(&template::render(&template, &template::value(value))?);
        }
    }
    for failure in failures {
        failure.print();
    }
    Ok(code)
}
