//! The server: slow clients, limits of connections, HTTP/2, the stop.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn slow_and_silent_clients_are_cut_and_others_served() {
    let limits = Limits {
        header_time_max: Duration::from_millis(100),
        idle_time_max: Duration::from_millis(100),
        body_idle_time_max: Duration::from_millis(100),
        ..Limits::default()
    };
    let house = House::with_limits(limits).await;
    // Each of these ends only because the server closes the connection.
    assert_eq!(raw(house.address, b"").await, "");
    assert_eq!(raw(house.address, b"POST /streams/clicks/records HTTP/1.1\r\nhost: x\r\n").await, "");
    assert_eq!(raw(house.address, b"PRI * HTTP/2.0\r\n\r\n").await, "");
    let slow_body = b"POST /streams/clicks/records HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhalf";
    let answer = raw(house.address, slow_body).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.ends_with("{\"error\": \"body came too slowly\"}"), "{answer}");
    let idle = b"POST /streams/clicks/records HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nall";
    let answer = raw(house.address, idle).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("{\"records\": 1}"), "{answer}");
    house.lives_with(1).await;
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_above_the_limit_wait_for_a_place() {
    let house = House::with_limits(Limits { connections_max: 1, ..Limits::default() }).await;
    let request = b"POST /streams/clicks/records HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\nx";
    let mut first = TcpStream::connect(house.address).await.unwrap();
    let mut second = TcpStream::connect(house.address).await.unwrap();
    second.write_all(request).await.unwrap();
    let mut answer = [0; 15];
    let mut served = tokio::spawn(async move { second.read_exact(&mut answer).await.map(|_| answer) });
    // Served at once, the second would be done long before the first has had all its answers.
    for _ in 0..50 {
        first.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"{\"records\": 1}") {
            assert!(first.read_buf(&mut answer).await.unwrap() > 0);
        }
        assert!(!served.is_finished());
    }
    drop(first);
    assert_eq!(&(&mut served).await.unwrap().unwrap(), b"HTTP/1.1 200 OK");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_answers_what_is_in_flight_and_takes_no_more() {
    let house = House::open().await;
    let mut idle = TcpStream::connect(house.address).await.unwrap();
    let mut busy = TcpStream::connect(house.address).await.unwrap();
    let head = b"POST /streams/clicks/records HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n";
    busy.write_all(head).await.unwrap();
    let mut word = [0; 25];
    busy.read_exact(&mut word).await.unwrap(); // the server is at the body now
    assert_eq!(&word, b"HTTP/1.1 100 Continue\r\n\r\n");
    house.stop.cancel();
    let mut nothing = Vec::new();
    idle.read_to_end(&mut nothing).await.unwrap_or_default();
    assert_eq!(nothing, b"");
    busy.write_all(b"last").await.unwrap();
    let mut answer = String::new();
    busy.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("{\"records\": 1}"), "{answer}");
    let address = house.address;
    assert_eq!(house.payloads("clicks", 1).await, [b"last"]);
    house.stop().await;
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_only_so_long_for_a_client_that_does_not_go_on() {
    let hour = Duration::from_secs(3600); // so that nothing but the stop ends it
    let limits = Limits { stop_time_max: Duration::from_millis(50), body_idle_time_max: hour, ..Limits::default() };
    let limits = Limits { body_time_max: hour, ..limits };
    let house = House::with_limits(limits).await;
    let mut stuck = TcpStream::connect(house.address).await.unwrap();
    stuck.write_all(b"POST /streams/clicks/records HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nx").await.unwrap();
    house.stop().await; // returns
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_clients_are_served_too() {
    let house = House::open().await;
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let posts = (0..300).map(|number| {
        let request = client.post(format!("http://{}/streams/clicks/records", house.address));
        answer_of(request.body(format!("{number}")))
    });
    for (status, answer) in futures::future::join_all(posts).await {
        assert_eq!((status, answer), (200, json!({"records": 1})));
    }
    house.lives_with(300).await;
    house.stop().await;
}
