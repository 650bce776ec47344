//! `update`: other limits for a container that exists.

use super::Containers;
use crate::options::{HealthChange, Limits, OnFailure, RestartPolicy, Ulimit};
use crate::spec::{self, SpecOptions};
use crate::state::ContainerRecord;
use crate::{Error, Result};
use std::path::PathBuf;

/// Change a container's settings; what is `None` or empty stays.
#[derive(Debug, Clone, Default)]
pub struct UpdateRequest {
    /// Name or ID.
    pub container: String,
    /// Limits of its control group, at once where it runs.
    pub limits: Limits,
    /// Limits of its processes, from the next start on.
    pub ulimits: Vec<Ulimit>,
    /// Environment, from the next start on.
    pub env: Vec<(String, String)>,
    /// Variables to drop, from the next start on.
    pub unset_env: Vec<String>,
    /// When it is started again by itself.
    pub restart: Option<RestartPolicy>,
    /// What is different about its health check, from the next check on.
    pub health: HealthChange,
}

impl Containers<'_> {
    /// Changes a container's settings; returns its ID, and what the user should know.
    pub fn update(&self, request: &UpdateRequest) -> Result<(String, Option<String>)> {
        let engine = self.engine;
        let state = engine.state();
        let found = state.find(&request.container)?;
        let missing = || Error::NotFound { what: "container", name: request.container.clone() };
        let _lock = state.lock(&found.id)?.ok_or_else(missing)?;
        let mut record = state.read(&found.id)?.ok_or_else(missing)?;
        let settings = &mut record.settings;
        merge(&mut settings.limits, &request.limits);
        for limit in &request.ulimits {
            settings.ulimits.retain(|known| known.name != limit.name);
            settings.ulimits.push(limit.clone());
        }
        settings.env.retain(|(name, _)| !request.unset_env.contains(name));
        for (name, value) in &request.env {
            match settings.env.iter_mut().find(|(known, _)| known == name) {
                Some((_, old)) => old.clone_from(value),
                None => settings.env.push((name.clone(), value.clone())),
            }
        }
        settings.health_check = request.health.apply(settings.health_check.take())?;
        if let Some(policy) = request.restart {
            settings.restart = policy;
        }
        if settings.restart != RestartPolicy::No {
            let by_health =
                settings.health_check.as_ref().is_some_and(|check| check.on_failure == OnFailure::Restart);
            let other = match (settings.auto_remove, by_health) {
                (true, _) => Some("--rm"),
                (_, true) => Some("--health-on-failure=restart"),
                _ => None,
            };
            if let Some(other) = other {
                let reason = format!("{other} and a restart policy exclude each other");
                return Err(Error::invalid("restart", reason));
            }
        }
        super::settings::check_limits(&record.settings)?;
        let warning = engine.unlimited(&request.limits)?;
        // what the kernel refuses is not written down
        if warning.is_none() {
            self.apply_limits(&record)?;
        }
        state.write(&record)?;
        engine.tell_container(&record, "update");
        Ok((record.id, warning))
    }

    /// Gives a running container's control group the limits of the record.
    fn apply_limits(&self, record: &ContainerRecord) -> Result<()> {
        let engine = self.engine;
        let options = SpecOptions {
            id: record.id.clone(),
            rootfs: PathBuf::from("/"),
            args: record.argv(),
            limits: record.settings.limits.clone(),
            ulimits: record.settings.ulimits.clone(),
            ..SpecOptions::default()
        };
        // read as for a start, so that a wrong limit is told also where nothing runs
        let mut spec = spec::build(&options, engine.host()?)?.spec;
        let seen = engine.seen(&record.id)?;
        let Some(paths) =
            seen.process.filter(|_| seen.status != super::Status::Exited).and_then(|process| process.cgroup)
        else {
            return Ok(());
        };
        let resources = spec.linux_mut().as_mut().and_then(|linux| linux.resources_mut().as_mut());
        let Some(resources) = resources else { return Ok(()) };
        // the rules for devices were set at the start, and by other options
        resources.set_devices(None);
        runtime::cgroup::Manager::open(paths).apply(resources).map_err(|error| {
            Error::os(format!("limit container {}", record.name), std::io::Error::other(error))
        })
    }
}

/// Puts what is asked for over what there is.
fn merge(limits: &mut Limits, new: &Limits) {
    fn put<T: Clone>(old: &mut Option<T>, new: &Option<T>) {
        if new.is_some() {
            old.clone_from(new);
        }
    }
    // Podman's default of twice the memory follows the memory
    if new.memory.is_some() && new.memory_swap.is_none() && limits.memory_swap.is_some_and(|swap| swap > 0) {
        limits.memory_swap = None;
    }
    if new.milli_cpus.is_some() {
        (limits.cpu_period, limits.cpu_quota) = (None, None);
    }
    if new.cpu_period.is_some() || new.cpu_quota.is_some() {
        limits.milli_cpus = None;
    }
    put(&mut limits.memory, &new.memory);
    put(&mut limits.memory_reservation, &new.memory_reservation);
    put(&mut limits.memory_swap, &new.memory_swap);
    put(&mut limits.memory_swappiness, &new.memory_swappiness);
    put(&mut limits.milli_cpus, &new.milli_cpus);
    put(&mut limits.cpu_period, &new.cpu_period);
    put(&mut limits.cpu_quota, &new.cpu_quota);
    put(&mut limits.cpu_shares, &new.cpu_shares);
    put(&mut limits.cpuset_cpus, &new.cpuset_cpus);
    put(&mut limits.cpuset_mems, &new.cpuset_mems);
    put(&mut limits.pids, &new.pids);
    put(&mut limits.blkio_weight, &new.blkio_weight);
    for limit in &new.block_devices {
        limits.block_devices.retain(|known| (known.kind, &known.device) != (limit.kind, &limit.device));
        limits.block_devices.push(limit.clone());
    }
    put(&mut limits.cpu_rt_period, &new.cpu_rt_period);
    put(&mut limits.cpu_rt_runtime, &new.cpu_rt_runtime);
    limits.unified.extend(new.unified.clone());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_asked_for_stays() {
        let mut limits = Limits {
            memory: Some(1),
            memory_swap: Some(2),
            milli_cpus: Some(500),
            pids: Some(9),
            ..Limits::default()
        };
        merge(&mut limits, &Limits { memory: Some(3), cpu_quota: Some(1000), ..Limits::default() });
        let wanted = Limits { memory: Some(3), cpu_quota: Some(1000), pids: Some(9), ..Limits::default() };
        assert_eq!(limits, wanted);
    }
}
