"`python -m archclf` is the command `archclf`."
from archclf.cli import main

main()
