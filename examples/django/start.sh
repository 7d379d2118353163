# Starts the shop on the database that libpq's environment names: extension, tables, users and products, application.
# `make example-django` does that on a private server.
set -eu
cd "$(dirname "$0")"
pyhist install
python manage.py migrate --verbosity 1
python manage.py open_shop
cat <<END

A shop in which every change of a product knows who made it. Its users are maya and tom, each with the name as password.
Open the address below, log in, change prices, and see who did what. Maya may also use the admin, at /admin/.

END
exec python manage.py runserver --noreload "${PORT:-8000}"
