"""The request of the HTTP scenarios."""

TARGET = "/catalogue/garden/watering/item-4711?variant=green"

# With Host and what the load generator adds: ten fields, about 700 bytes, as a browser behind a login sends.
HEADERS = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Accept-Language: en-GB,en;q=0.9,de;q=0.8",
    "Accept-Encoding: gzip, deflate, br",
    "Referer: https://shop.example/catalogue/garden/watering?page=3&sort=price",
    "Cookie: session=5f2b8c1d9e3a4f7096b1c2d3e4f5a6b7; theme=dark; consent=2026-01-01T00%3A00%3A00Z",
    "Authorization: Bearer dGhpcyBpcyBub3QgYSByZWFsIHRva2VuIGJ1dCBpdCBpcyBhcyBsb25nIGFzIG9uZQ",
    "Cache-Control: max-age=0",
    "X-Request-Id: 4bf92f3577b34da6a3ce929d0e0e4736",
)
