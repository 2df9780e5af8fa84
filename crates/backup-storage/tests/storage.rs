//! The storage over real directories, real NBD and `qemu-img` as the judge.

mod storage {
    pub(crate) mod fixture;
    mod images;
    mod points;
    mod power;
    mod power_cut;
    mod replicas;
    mod restores;
    mod resuming;
    mod rot;
    mod seed;
    mod surgery;
}
