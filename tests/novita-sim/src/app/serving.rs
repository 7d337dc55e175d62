//! Which machine runs which application, where it can be reached, and what it answers there.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::{App, AppKind, Knock, Said, Scene};
use crate::machine::Machine;
use crate::world::{Slot, World};

/// Where the machines with an application can be reached, behind their id; nobody can look it up.
const DOMAIN: &str = ".pods.example";

/// Applications, by the image that they are in.
pub(crate) type Apps = BTreeMap<String, Vec<App>>;

impl World {
    /// Every machine of this image runs this application, those that are still to be created as well. It takes the place
    /// of another one on the same port.
    pub fn set_app(&mut self, image: &str, app: App) {
        let apps = self.apps.entry(image.to_owned()).or_default();
        apps.retain(|it| it.port != app.port);
        apps.push(app);
        self.apps_changed(|machine| machine.image_url == image);
    }

    /// Changes all applications, with their images.
    pub fn change_apps(&mut self, mut change: impl FnMut(&str, &mut App)) {
        for (image, apps) in &mut self.apps {
            apps.iter_mut().for_each(|app| change(image, app));
        }
        self.apps_changed(|_| true);
    }

    /// The machines of this image run nothing any more.
    pub fn remove_apps(&mut self, image: &str) {
        self.apps.remove(image);
        self.apps_changed(|machine| machine.image_url == image);
    }

    /// The applications of an image.
    pub fn apps_of(&self, image: &str) -> impl Iterator<Item = &App> + use<'_> {
        self.apps.get(image).into_iter().flatten()
    }

    fn apps_changed(&mut self, of: impl Fn(&Machine) -> bool) {
        for (number, slot) in self.slots.iter_mut().enumerate() {
            if let Some(slot) = slot.as_mut().filter(|slot| of(&slot.machine)) {
                slot.row = None;
                if let Some(stirred) = &mut self.stirred {
                    stirred.push(number);
                }
            }
        }
    }

    /// One sample of the application behind an endpoint, taken now; `kind` is how it is asked.
    pub fn knock(&mut self, address: &str, kind: AppKind) -> Knock {
        match self.resident(address) {
            Some((slot, port)) => self.knock_at(slot, port, kind),
            None => REFUSED,
        }
    }

    /// The application behind an endpoint, whether or not its machine is up.
    #[must_use]
    pub fn app_behind(&self, address: &str) -> Option<&App> {
        let (slot, port) = self.resident(address)?;
        self.app_at(slot, port)
    }

    /// The application on a port of a machine, whether or not it is up.
    pub(crate) fn app_at(&self, slot: usize, port: u16) -> Option<&App> {
        app_of(&self.apps, self.machine_at(slot)?, port)
    }

    /// Where a port of an instance can be reached, if an application is there.
    #[must_use]
    pub fn endpoint(&self, id: &str, port: u16) -> Option<String> {
        let slot = self.slots.get(self.slot(id)?)?.as_ref()?;
        let mut known = endpoints(&self.apps, slot, self.rules.wire.endpoint_urls).into_iter();
        known.find(|(known, _)| *known == port).map(|(_, endpoint)| endpoint)
    }

    /// The machine and its port behind an endpoint. An application need not be there.
    fn resident(&self, address: &str) -> Option<(usize, u16)> {
        let address = address.strip_prefix("http://").unwrap_or(address).trim_end_matches('/');
        let (id, _) = address.rsplit_once(DOMAIN)?;
        let slot = self.slot(id)?;
        let machine = self.machine_at(slot)?;
        let mut ports = machine.ports.iter().enumerate();
        let found = ports.find(|(place, _)| made_up(machine, *place) == address)?;
        Some((slot, found.1.0))
    }

    /// The same for a machine and a port of it.
    pub(crate) fn knock_at(&mut self, slot: usize, port: u16, kind: AppKind) -> Knock {
        let Some(machine) = self.machine_at(slot) else { return REFUSED };
        let Some(app) = running_app(&self.apps, machine, port).filter(|app| self.boots_in(machine, app) <= 0) else {
            return REFUSED;
        };
        if app.kind == AppKind::Tcp && kind == AppKind::Http {
            return Knock { took_us: 0, said: Said::Closed };
        }
        let (looks_around, is_spot, started_at) =
            (app.looks_around(), machine.billing_mode == "spot", started_at(machine));
        let (spot, running) = if looks_around { self.share() } else { (0, 0) };
        let scene = Scene { now: self.now, up_ms: self.now - started_at, is_spot, spot, running };
        let Self { apps, slots, .. } = self;
        let Some(Some(Slot { machine, counts, .. })) = slots.get_mut(slot) else { return REFUSED };
        let Some(app) = running_app(apps, machine, port) else { return REFUSED };
        let place = counts.iter().position(|(known, _)| *known == port).unwrap_or_else(|| {
            counts.push((port, super::Counts::default()));
            counts.len() - 1
        });
        app.answer(&scene, &mut counts[place].1)
    }

    /// How long an application still needs until it listens; 0 or less if it does.
    pub(crate) fn boots_in(&self, machine: &Machine, app: &App) -> i64 {
        started_at(machine) + app.boot_ms - self.now
    }

    /// How many machines run as spot, and how many as spot or on demand.
    fn share(&mut self) -> (u32, u32) {
        if let Some(share) = self.share {
            return share;
        }
        let (mut spot, mut running) = (0, 0);
        for machine in self.machines().filter(|machine| machine.status == "running") {
            let is_spot = machine.billing_mode == "spot";
            spot += u32::from(is_spot);
            running += u32::from(is_spot || machine.billing_mode == "onDemand");
        }
        *self.share.insert((spot, running))
    }
}

const REFUSED: Knock = Knock { took_us: 0, said: Said::Refused };

fn started_at(machine: &Machine) -> i64 {
    machine.first_ran_at.max(machine.last_started_at)
}

fn app_of<'a>(apps: &'a Apps, machine: &Machine, port: u16) -> Option<&'a App> {
    apps.get(&machine.image_url)?.iter().find(|app| app.port == port)
}

/// The application on a port, if its machine is up.
fn running_app<'a>(apps: &'a Apps, machine: &Machine, port: u16) -> Option<&'a App> {
    app_of(apps, machine, port).filter(|_| machine.status == "running")
}

/// Where a port can be reached if nothing real is there.
fn made_up(machine: &Machine, place: usize) -> String {
    format!("{}{DOMAIN}:{}", machine.id, 20_000 + place)
}

/// Where the ports with an application can be reached. The others are all at one made-up host.
pub(crate) fn endpoints(apps: &Apps, slot: &Slot, as_urls: bool) -> Vec<(u16, String)> {
    if apps.is_empty() {
        return Vec::new();
    }
    let Slot { machine, sockets, .. } = slot;
    let ports = machine.ports.iter().enumerate().filter_map(|(place, (port, kind))| {
        app_of(apps, machine, *port)?;
        let socket = sockets.iter().find(|(known, _)| known == port).map(|(_, address): &(u16, SocketAddr)| address);
        let address = socket.map_or_else(|| made_up(machine, place), ToString::to_string);
        Some((*port, if as_urls && kind == "http" { format!("http://{address}") } else { address }))
    });
    ports.collect()
}
