"""How each Python program is called. One module a program, each with the same functions.

``PACKAGE``            what ``import`` loads
``load(columns, model)``        the program's own favourite table, made before the clock starts
``fit(table, model, threads)``  the timed call: the table in memory to a fit
``estimates(fit, model)``       ``beta, sigma2, G`` (by term), ``reported`` criterion, ``converged``

and, where they apply,

``refuse(columns, model)``      a sentence if the program cannot fit the model, else None
``refitter(table, model, new, threads)``  a function that fits a new response, to be timed

The program itself is imported inside functions, because importing it is timed too. Nothing else of
this folder's parents may be imported but `models`: the module runs in the program's environment.
"""
