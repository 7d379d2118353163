# Starts the shop on the database that libpq's environment names: extension, tables, users and products, application.
# `make example-fastapi` does that on a private server.
set -eu
cd "$(dirname "$0")"
pyhist install
alembic upgrade head
python -m shop.open_shop
cat <<END

A shop in which every change of a product knows who made it. Its users are maya and tom, each with the name as password.
Open the address below with /docs behind it: log in (POST /login), change products, and read GET /products/1/history.
Or with curl and a file of cookies, for each user:

    curl -c maya -d '{"username": "maya", "password": "maya"}' -H 'Content-Type: application/json' ADDRESS/login
    curl -b maya -X PATCH -d '{"price": "3.50"}' -H 'Content-Type: application/json' ADDRESS/products/1
    curl -b maya ADDRESS/products/1/history

END
exec uvicorn shop.main:app --port "${PORT:-8000}"
