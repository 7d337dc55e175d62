//! What the provider sells, at what price, and as long as stocks last.

use crate::machine::{Cluster, Product};
use crate::world::World;

impl World {
    /// The products that are sold.
    #[must_use]
    pub fn products(&self) -> &[Product] {
        &self.products
    }

    /// A product, to change, for example its stock. `None` if it is not sold.
    pub fn product_mut(&mut self, id: &str) -> Option<&mut Product> {
        self.products.iter_mut().find(|product| product.id == id)
    }

    /// The provider does not sell it any more, and no listing of products shows it. Instances that have it keep it.
    /// Answers it, so that it can be sold again; `None` if it is not known.
    pub fn withdraw_product(&mut self, id: &str) -> Option<Product> {
        let place = self.products.iter().position(|product| product.id == id)?;
        Some(self.products.remove(place))
    }

    /// Sells one product more.
    pub fn add_product(&mut self, product: Product) {
        self.products.push(product);
    }

    /// One cluster more.
    pub fn add_cluster(&mut self, cluster: Cluster) {
        self.clusters.push(cluster);
    }

    /// Sets the stock of every product.
    pub fn set_stock(&mut self, gpus: u32) {
        for product in &mut self.products {
            product.stock = gpus;
        }
    }

    /// What a product costs per GPU and hour from now on, in 1/100000 USD; what exists keeps its price. `false` if it is
    /// not sold.
    pub fn set_price(&mut self, product: &str, price: u32, spot_price: Option<u32>) -> bool {
        let found = self.product_mut(product);
        found.map(|product| (product.price, product.spot_price) = (price, spot_price)).is_some()
    }
}
