//! Takes over changed settings while the program runs.

use super::{Changeable, ConfigError, Settings};

/// What a reload changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Settings that have their new values now.
    pub taken_over: Vec<&'static str>,
    /// Sections with changes that need a restart.
    pub need_restart: Vec<&'static str>,
}

/// Returns the names of the sections that differ. Names all sections, so that none is forgotten.
macro_rules! differing {
    ($one:expr, $other:expr, $($section:ident),* $(,)?) => {{
        let Settings { $($section),* } = $one;
        let mut names = Vec::new();
        $(if *$section != $other.$section {
            names.push(stringify!($section));
        })*
        names
    }};
}

impl Settings {
    /// Takes over the changeable settings of `new`. All clones of these settings have them, too.
    ///
    /// # Errors
    /// A change cannot be made while the program runs. Then nothing is taken over.
    pub fn take_over(&self, new: &Self) -> Result<Changes, ConfigError> {
        if self.webhooks.is_on() != new.webhooks.is_on() {
            return Err(ConfigError::Value {
                key: "webhooks.secret",
                value: "***".to_owned(),
                reason: "switching webhooks on or off needs a restart".to_owned(),
            });
        }
        let taken_over = [
            copy("limits", &new.limits, &self.limits),
            copy("mail.smtp.username", &new.mail.smtp.username, &self.mail.smtp.username),
            copy("mail.smtp.password", &new.mail.smtp.password, &self.mail.smtp.password),
            copy("webhooks.secret", &new.webhooks.secret, &self.webhooks.secret),
            copy("share.secret", &new.share.secret, &self.share.secret),
            copy("log.filter", &new.log.filter, &self.log.filter),
        ];
        let need_restart = differing!(
            self, new, http, auth, limits, cors, database, storage, sources, queue, video, sync, pictures, live,
            thumbnails, engine, models, vision, speech, mail, webhooks, report, notice, share, retention, log, metrics,
            tracing
        );
        Ok(Changes { taken_over: taken_over.into_iter().flatten().collect(), need_restart })
    }
}

/// Copies a value if it differs, and then returns its name.
fn copy<T: Clone + PartialEq>(name: &'static str, from: &Changeable<T>, to: &Changeable<T>) -> Option<&'static str> {
    let differs = from != to;
    if differs {
        to.set((*from.get()).clone());
    }
    differs.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    #[test]
    fn changeable_settings_are_taken_over_by_all_clones_and_others_are_named() {
        let settings = Settings::defaults().unwrap();
        settings.webhooks.secret.set(Secret::new("one"));
        let used = settings.clone();
        let mut new = Settings::defaults().unwrap();
        new.limits.change(|limits| limits.rate_per_minute_key = 7);
        new.webhooks.secret.set(Secret::new("two one"));
        new.http.listen = "127.0.0.1:1".to_owned();
        new.webhooks.timeout_s += 1;
        let changes = settings.take_over(&new).unwrap();
        assert_eq!(changes.taken_over, ["limits", "webhooks.secret"]);
        assert_eq!(changes.need_restart, ["http", "webhooks"]);
        assert_eq!(used.limits.get().rate_per_minute_key, 7);
        assert_eq!(used.webhooks.secret.get().expose(), "two one");
        assert_ne!(used.http.listen, new.http.listen);
        assert_eq!(settings.take_over(&new).unwrap().taken_over, [""; 0], "the second time nothing is new");
    }

    #[test]
    fn webhooks_are_not_switched_while_the_program_runs() {
        let (settings, new) = (Settings::defaults().unwrap(), Settings::defaults().unwrap());
        new.webhooks.secret.set(Secret::new("one"));
        new.limits.change(|limits| limits.rate_per_minute_key = 7);
        assert!(settings.take_over(&new).unwrap_err().to_string().contains("webhooks.secret"));
        assert_eq!(settings.limits.get().rate_per_minute_key, 0);
    }
}
