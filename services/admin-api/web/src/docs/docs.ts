/** `/docs`: the HTTP API's description with forms to try it, by Swagger UI from `openapi.json`. */

import SwaggerUI from "swagger-ui-dist/swagger-ui-es-bundle.js";

import { followScheme } from "../theme.ts";

// Swagger UI's style sheet expects this class.
followScheme((scheme) => document.documentElement.classList.toggle("dark-mode", scheme === "dark"));

SwaggerUI({
  dom_id: "#api",
  url: "openapi.json",
  deepLinking: true,
  // By default it sends the description to a validator on another host.
  validatorUrl: null,
  // By default a query of this page's URL could load another description.
  queryConfigEnabled: false,
});
