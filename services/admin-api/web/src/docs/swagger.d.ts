/** What is used of Swagger UI; its package has no types. */
declare module "swagger-ui-dist/swagger-ui-es-bundle.js" {
  interface Options {
    readonly dom_id: string;
    readonly url: string;
    readonly deepLinking: boolean;
    readonly validatorUrl: string | null;
    readonly queryConfigEnabled: boolean;
  }
  export default function SwaggerUI(options: Options): unknown;
}
