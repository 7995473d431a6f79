//! Back ends that frames come from and go to.
