// Threads, channels, a panic that is caught, a child process.
use std::collections::BTreeMap;
use std::process::{exit, Command};
use std::sync::{mpsc, Arc, Mutex};
use std::thread;

fn main() {
    let (sender, receiver) = mpsc::channel();
    let total = Arc::new(Mutex::new(0u64));
    let threads: Vec<_> = (0..4u64)
        .map(|k| {
            let (sender, total) = (sender.clone(), total.clone());
            thread::spawn(move || {
                for n in 0..100 {
                    *total.lock().unwrap() += n * k;
                }
                sender.send((k, k * k)).unwrap();
            })
        })
        .collect();
    for t in threads {
        t.join().unwrap();
    }
    drop(sender);
    let squares: BTreeMap<_, _> = receiver.iter().collect();
    println!("{:?} {}", squares, total.lock().unwrap());
    std::panic::set_hook(Box::new(|_| {}));
    let caught = std::panic::catch_unwind(|| vec![1, 2, 3][std::env::args().count() + 5]);
    println!("{} {:?}", caught.is_err(), std::env::args().skip(1).collect::<Vec<_>>());
    let output = Command::new("echo").arg("child").output().unwrap();
    print!("{}", String::from_utf8_lossy(&output.stdout));
    println!("{:?}", Command::new("no-such-program").status().map_err(|e| e.kind()));
    exit(3);
}
